"""Checkpoints that are written while training goes on."""

from __future__ import annotations

import errno
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from tunebook.book.checkpoints import best_step, list_checkpoints, verify_checkpoint
from tunebook.book.events import EventWriter, read_events
from tunebook.book.places import RunFolder
from tunebook.errors import StorageError

STEPS = 4


@pytest.fixture
def training() -> Any:
    import torch

    import tunebook.workflows.training as training

    torch.set_num_threads(1)
    return training


def begin(book: Path, model: Path, name: str, asynchronous: object) -> RunFolder:
    from tunebook.workflows.train import load_recipe, start_run

    rows = book / "rows.json"
    rows.write_text(json.dumps([{"instruction": f"say {i}", "output": "rain"} for i in range(24)]))
    recipe = {
        "name": name,
        "model": str(model),
        "data": [{"path": str(rows), "format": "alpaca"}],
        "max_seq_len": 128,
        "validation": {"fraction": 0.2},
        "train": {"max_steps": STEPS, "effective_batch_size": 4, "learning_rate": 1e-3},
        "evaluate": {"every": 2, "prompts": []},
        "checkpoint": {"every": 1, "keep": 10, "asynchronous": asynchronous},
    }
    return start_run(book, load_recipe(recipe, [], book))


def train(training: Any, run: RunFolder, told: Any = lambda _kind: None) -> None:
    with EventWriter(run, len(list(run.path.glob("events/*"))) + 1) as events:
        write = events.write

        def noting(kind: str, payload: Any) -> None:
            write(kind, payload)
            told(kind)

        events.write = noting  # type: ignore[method-assign]
        training.run_to_end(run, events, lambda: None, lambda: None)


def saved(run: RunFolder) -> dict[str, bytes]:
    found = {}
    for folder in [*list_checkpoints(run), run.final]:
        verify_checkpoint(folder)
        for path in folder.glob("*.safetensors"):
            found[f"{folder.name}/{path.name}"] = path.read_bytes()
    return found


def test_a_checkpoint_written_while_steps_go_on_is_that_of_its_own_step(
    book: Path, tiny_gpt2: Path, training: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = begin(book, tiny_gpt2, "plain", False)
    train(training, plain)
    run = begin(book, tiny_gpt2, "aside", True)
    later_step, write_state = threading.Event(), training.write_state
    steps: list[str] = []

    def told(kind: str) -> None:
        steps.extend([kind] if kind in ("step", "checkpoint") else [])
        if steps.count("step") == 2:
            later_step.set()

    def held(*args: Any) -> None:
        if threading.current_thread() is not threading.main_thread():
            assert later_step.wait(60), "no step was taken while the checkpoint was written"
        write_state(*args)

    monkeypatch.setattr(training, "write_state", held)
    train(training, run, told)
    assert steps[:2] == ["step", "step"], "a checkpoint is announced once it is durable"
    assert saved(run) == saved(plain)
    assert len(saved(run)) == 2 * STEPS + 1
    assert "written while training goes on" in run.plan_json.read_text()
    told_of = [[(c["step"], c["reason"]) for c in read_events(r).checkpoints] for r in (run, plain)]
    assert told_of[0] == told_of[1]
    assert best_step(run) == best_step(plain)


def test_a_disk_that_fills_while_a_checkpoint_is_written_pauses_and_loses_nothing_announced(
    book: Path, tiny_gpt2: Path, training: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begin(book, tiny_gpt2, "full-disk", True)
    write_state = training.write_state

    def full(folder: Path, *args: Any) -> None:
        write_state(folder, *args)
        if folder.name.startswith(".tmp-2-"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))

    monkeypatch.setattr(training, "write_state", full)
    with pytest.raises(StorageError, match=r"the disk is full: cannot save .*step-2.* free space"):
        train(training, run)
    assert [path.name for path in list_checkpoints(run)] == ["step-1"]
    assert [c["step"] for c in read_events(run).checkpoints] == [1]
    monkeypatch.undo()
    train(training, run)
    assert {c["step"] for c in read_events(run).checkpoints} == set(range(1, STEPS + 1))
