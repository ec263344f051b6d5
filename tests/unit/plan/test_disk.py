from __future__ import annotations

import itertools
import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tunebook.book.atomic import folder_bytes, free_bytes
from tunebook.book.checkpoints import refuse_without_room, writing_checkpoint
from tunebook.book.places import RunFolder
from tunebook.data.batches import MicroBatch
from tunebook.errors import StorageError
from tunebook.models.load import add_lora, load_model
from tunebook.models.quantize import eight_bit_bytes
from tunebook.models.relora import Merger
from tunebook.plan.counts import count_parameters
from tunebook.plan.disk import plan_disk
from tunebook.plan.result import Parameters
from tunebook.recipe.tree import Recipe
from tunebook.step.forward import Scorer
from tunebook.step.horizon import Horizon
from tunebook.step.movement import WeightSample
from tunebook.step.optimization import Optimization
from tunebook.step.team import ALONE
from tunebook.step.update import take_step
from tunebook.train.state import Position, state_bytes, write_state

Usage = namedtuple("Usage", "total used free")


def recipe_of(**changes: Any) -> Recipe:
    values = {"name": "run", "model": "tunebook/tiny", "data": [{"path": "rows.json"}], **changes}
    return Recipe.model_validate(values)


def two_rows() -> MicroBatch:
    positions = np.tile(np.arange(12), 2)
    return MicroBatch(
        np.arange(24, dtype=np.int64) + 5,
        positions,
        positions > 0,
        np.repeat(np.arange(2), 12),
        (12, 12),
        ("a#1", "a#2"),
        ("a", "a"),
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("method", "train"),
    [
        ("full", {"optimizer": "adamw"}),
        ("full", {"optimizer": "sgd"}),
        ("full", {"optimizer": "sgd", "momentum": 0.9}),
        ("lora", {"optimizer": "adamw"}),
        ("full", {"optimizer": "adamw_8bit"}),
        ("relora", {"optimizer": "adamw"}),
    ],
    ids=["adamw", "sgd", "momentum", "lora", "8bit", "relora"],
)
def test_a_planned_checkpoint_is_within_1_percent_of_a_written_one(
    tmp_path: Path, precision: str, method: str, train: dict[str, Any]
) -> None:
    if train["optimizer"] == "adamw_8bit":
        pytest.importorskip("bitsandbytes")
    recipe = recipe_of(method=method, train=train)
    loaded = load_model("tunebook/tiny", device="cpu", precision=precision, attention="auto")
    if method != "full":
        loaded = add_lora(loaded, recipe.lora, recipe.model, 0)
    if method == "relora":
        loaded = replace(loaded, merger=Merger(loaded.network, 0))
    optimization = Optimization(loaded.trainable(), recipe.train)
    take_step(
        loaded,
        Scorer(flat=True, direct_head=True),
        optimization,
        WeightSample(optimization.masters),
        [two_rows()],
        learning_rate=1e-4,
        max_grad_norm=1.0,
        seed=0,
        step=1,
    )
    write_state(tmp_path, loaded, optimization, Position(1, 2, 4, 0, "hash", 0, None, None), ALONE)
    written = folder_bytes(tmp_path)
    planned = plan_disk(
        tmp_path / "runs" / "run",
        recipe,
        precision,
        count_parameters(loaded.network, loaded.causal, quantized=False),
        len(loaded.trainable()),
        tokenizer_folder=loaded.folder,
        horizon=None,
        eight_bit_bytes=sum(eight_bit_bytes(p.numel()) for p in loaded.trainable().values())
        if recipe.train.optimizer == "adamw_8bit"
        else 0,
    )
    assert planned.checkpoint_bytes == pytest.approx(written, rel=0.01)
    # What is asked before each save leaves out the headers, which are more of a small adapter.
    assert state_bytes(loaded, optimization, ALONE) == pytest.approx(written, rel=0.03)


MILLION = Parameters(1_000_000, 1_000_000, 1_000_000, 0, {})


def disk_of(steps: int = 100, **changes: Any) -> Any:
    recipe = recipe_of(**changes)
    horizon = Horizon(4 * steps, steps, 4 * steps, 4, 4)
    return plan_disk(Path("/"), recipe, "bf16", MILLION, 0, tokenizer_folder=None, horizon=horizon)


def test_the_newest_the_best_and_the_one_being_written_stand_at_one_time() -> None:
    assert disk_of(checkpoint={"keep": 3}).kept == 5
    assert disk_of(checkpoint={"keep": 3}, validation={"fraction": 0.0}).kept == 4
    # A run of two steps never has more than two.
    assert disk_of(steps=2, checkpoint={"keep": 3}).kept == 2


@pytest.mark.parametrize("keep", [1, 2, 3, 5])
@pytest.mark.parametrize("every", [1, 3, 4, "25%", "epoch"])
@pytest.mark.parametrize("evaluate", [1, 4, 5, "50%"])
def test_as_many_checkpoints_are_planned_as_the_worst_order_of_losses_leaves(
    keep: int, every: int | str, evaluate: int | str
) -> None:
    """Every pattern of which validations are the best so far is played through."""
    steps = 10
    changes: dict[str, Any] = {"checkpoint": {"keep": keep, "every": every}}
    disk = disk_of(steps, **changes, evaluate={"every": evaluate})
    horizon = Horizon(4 * steps, steps, 4 * steps, 4, 4)
    due = [n for n in range(1, steps + 1) if n == steps or horizon.due(evaluate, n)]
    most = lasting = 0
    for better in itertools.product((False, True), repeat=len(due) - 1):
        # The first validation is always the best so far.
        improving = {
            step for step, is_better in zip(due, (True, *better), strict=True) if is_better
        }
        stand: list[int] = []
        best = None
        for step in range(1, steps + 1):
            if step in improving:
                best = step
            if step in improving or step == steps or horizon.due(every, step):
                stand.append(step)
                most = max(most, len(stand))
                stand = [n for n in stand if n in stand[-keep:] or n == best]
        lasting = max(lasting, len(stand))
    assert disk.kept == most
    assert disk.needed_bytes == max(most * 14_000_000, lasting * 14_000_000 + 2_000_000)


def test_bf16_weights_with_masters_and_adamw_take_14_bytes_each() -> None:
    disk = disk_of(checkpoint={"keep": 1}, validation={"fraction": 0.0})
    assert (disk.checkpoint_bytes, disk.final_bytes) == (14_000_000, 2_000_000)
    # The final weights are written when one checkpoint stands.
    assert disk.needed_bytes == 2 * 14_000_000
    assert disk_of(steps=1, checkpoint={"keep": 1}).needed_bytes == 14_000_000 + 2_000_000


def test_parts_leave_their_checkpoints_and_final_weights_behind() -> None:
    disk = disk_of(checkpoint={"keep": 1}, validation={"fraction": 0.0}, parts=10)
    assert (disk.kept, disk.final_bytes) == (11, 20_000_000)
    assert disk_of(checkpoint={"keep": 1}, parts=10, part=2).final_bytes == 2_000_000


def test_free_space_is_that_of_the_volume_a_link_leads_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run's folder is not there yet, and the book's `runs` is a link to another volume."""
    (tmp_path / "book").mkdir()
    (tmp_path / "large").mkdir()
    (tmp_path / "book" / "runs").symlink_to(tmp_path / "large")
    asked = []

    def usage(path: Path) -> Usage:
        asked.append(Path(path))
        return Usage(9, 2, 7)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    assert free_bytes(tmp_path / "book" / "runs" / "run" / "checkpoints") == 7
    assert asked == [tmp_path / "large"]


def test_a_checkpoint_without_room_is_refused_before_it_is_written(
    book: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(book, "run_1")
    with writing_checkpoint(run, 4) as folder:
        (folder / "model.safetensors").write_bytes(b"x" * 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(10**9, 10**9 - 999, 999))
    refuse_without_room(run, 8, 999)
    with pytest.raises(StorageError) as caught:
        refuse_without_room(run, 8, 1000)
    assert str(caught.value) == (
        "the disk is nearly full: step 8's checkpoint needs 1000 B, 999 B free; step-4 is whole: "
        "free space and `tunebook resume run_1`"
    )
