"""Weights that cannot move or were never loaded, devices, evaluation, clipping and skipped batches
(1, 2, 8, 9, 19, 25)."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from tunebook.book.events import Events, EventWriter, read_events
from tunebook.data.batches import MicroBatch
from tunebook.errors import RunEnded
from tunebook.kinds import FAULTS
from tunebook.models.find import find_model
from tunebook.recipe.tree import Train
from tunebook.step.forward import token_losses
from tunebook.step.optimization import Optimization
from tunebook.step.update import StepOutOfMemory, StepResult, take_step
from tunebook.workflows.train import load_recipe, start_run
from tunebook.workflows.training import run_to_end

Caught = Callable[..., Mapping[str, Any]]
Plan = Callable[..., tuple[int, Any]]


@pytest.fixture
def write(write_data: Callable[..., Path], write_run: Callable[..., Path]) -> Callable[..., Path]:
    """Give a function that writes a run over 60 short rows, with changes."""
    rows = [
        {"instruction": f"Say hello to friend {n}.", "output": f"Hello, friend {n}, how are you?"}
        for n in range(60)
    ]
    data = write_data("friends.json", rows)
    return lambda **changes: write_run(data, **changes)


def finding(plan: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    return next((found for found in plan["checks"] if found["name"] == name), None)


def train_here(run_file: Path) -> Events:
    """Train in this process, so that a test can break what the training process calls."""
    book = run_file.parent
    run = start_run(book, load_recipe(run_file, (), book))
    events = EventWriter(run, 1)
    try:
        run_to_end(run, events, lambda: None, lambda: None)
    finally:
        events.close()
    return read_events(run)


# Nothing but the steps: no evaluation, no canary, no samples.
BARE = {
    "validation": {"fraction": 0.0},
    "evaluate": {"canary": 0, "prompts": []},
    "checkpoint": {"every": "100%"},
}


def verdicts(events: Events) -> dict[str, Any]:
    return {verdict.kind: verdict for verdict in events.verdicts}


# --- 1: bf16 weights updated in place -----------------------------------------------------------

# Rows of one are enough: products in bf16 are slow on many CPUs.
SGD = {
    "optimizer": "sgd",
    "learning_rate": 1e-3,
    "schedule": "constant",
    "max_steps": 5,
    "effective_batch_size": 1,
}


def without_masters(patch: pytest.MonkeyPatch) -> None:
    """Let SGD move the bf16 weights themselves, as `model.to(bfloat16)` and a plain loop do."""

    def init(
        self: Optimization,
        parameters: Mapping[str, torch.nn.Parameter],
        train: Train,
        *,
        keeps_rounded: bool = False,
        exact: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        self.parameters = dict(parameters)
        self.masters = dict(parameters)
        self.homes, self._fused = {}, False
        self.keeps_rounded, self.sharded = keeps_rounded, False
        self.optimizer = torch.optim.SGD(self.masters.values(), lr=train.learning_rate)

    patch.setattr(Optimization, "__init__", init)


@pytest.mark.defect(1, "weights-frozen-by-precision", "P")
def test_updates_below_half_a_bf16_unit_are_refused(
    caught: Caught, write: Callable[..., Path]
) -> None:
    found = caught(
        write(precision="bf16", train=SGD),
        "weights-frozen-by-precision",
        "refuse",
        without_masters,
    )
    assert found["evidence"]["dtype"] == "bfloat16"
    assert found["evidence"]["update"] < found["evidence"]["median_half_unit"] / 10


@pytest.mark.defect(1, "weights-frozen-by-precision", "T")
def test_weights_that_stay_as_they_are_are_reported_by_step_5(
    write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    accept = ["weights-frozen-by-precision"]
    changes = {**BARE, "precision": "bf16", "train": SGD, "accept": accept}
    healthy = train_here(write(name="healthy", **changes))
    assert "weights_frozen_by_precision" not in verdicts(healthy)
    assert min(step.changed_fraction or 0 for step in healthy.steps) > 0.5
    without_masters(monkeypatch)
    found = verdicts(train_here(write(name="frozen", **changes)))["weights_frozen_by_precision"]
    assert found.last_step == 5
    assert found.evidence["changed_fraction"] < 0.01


# --- 2: a base that was never loaded ------------------------------------------------------------


@pytest.mark.defect(2, "random-base", "P")
@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_base_built_of_its_config_alone_is_refused(
    caught: Caught, write: Callable[..., Path], method: str
) -> None:
    def break_it(patch: pytest.MonkeyPatch) -> None:
        from transformers import AutoModelForCausalLM

        def from_config(_folder: Path, *, config: Any, **settings: Any) -> Any:
            kept = {key: settings[key] for key in ("dtype", "attn_implementation")}
            model = AutoModelForCausalLM.from_config(config, **kept)
            return model, {"missing_keys": set(), "unexpected_keys": set()}

        patch.setattr(AutoModelForCausalLM, "from_pretrained", from_config)

    found = caught(write(method=method), "random-base", "refuse", break_it)
    assert found["evidence"]["loss"] == pytest.approx(math.log(4096), abs=0.5)


@pytest.mark.defect(2, "random-base", "P")
def test_weights_that_the_model_has_no_place_for_are_named(
    caught: Caught, write: Callable[..., Path], in_book: Path
) -> None:
    """A config with fewer layers than the files have, as after a wrong copy."""
    model = in_book / "model"
    shutil.copytree(find_model("tunebook/tiny"), model)

    def break_it(_patch: pytest.MonkeyPatch) -> None:
        config = json.loads((model / "config.json").read_text())
        (model / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 5}))

    found = caught(write(model=str(model)), "random-base", "warn", break_it)
    assert found["evidence"]["unexpected"][0].startswith("model.layers.5.")


# --- 8: evaluation after every step -------------------------------------------------------------


@pytest.mark.defect(8, "evaluation-dominates", "P")
def test_evaluation_after_every_step_is_told_its_share(
    plan_json: Plan, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    # So short a run evaluates for less than the minute that is never too much.
    monkeypatch.setattr("tunebook.plan.checks.evaluation_dominates._LEAST_SECONDS", 0.0)
    settings = {"validation": {"fraction": 0.3}, "train": {"max_steps": 50}}
    seldom = write(**settings, evaluate={"every": "50%", "canary": 0})
    assert finding(plan_json(seldom)[1], "evaluation-dominates") is None
    always = write(**settings, evaluate={"every": 1, "canary": 0})
    found = finding(plan_json(always)[1], "evaluation-dominates")
    assert found is not None
    assert found["level"] == "warn"
    # 51 times a third of the rows forward, against 50 steps of 4 rows forward and backward.
    assert 0.4 < found["evidence"]["share"] < 0.8
    assert "every step" in found["message"]


# --- 9: clipping that begins in the middle ------------------------------------------------------


@pytest.mark.defect(9, "clip_switch", "T")
def test_clipping_that_begins_after_the_warm_up_is_named_at_its_step(
    write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    train = {"max_steps": 16, "effective_batch_size": 2, "warmup_steps": 8, "max_grad_norm": 0.3}
    healthy = train_here(write(name="healthy", train=train, **BARE))
    assert "clip_switch" not in verdicts(healthy)

    def late(*args: Any, max_grad_norm: float, step: int, **settings: Any) -> StepResult:
        limit = max_grad_norm if step > 8 else 0.0
        return take_step(*args, max_grad_norm=limit, step=step, **settings)

    from tunebook.train import loop

    monkeypatch.setattr(loop, "take_step", late)
    events = train_here(write(name="late", train=train, **BARE))
    found = verdicts(events)["clip_switch"]
    assert "clipping begins at step 9" in found.cause
    assert (found.step, found.confidence) == (9, "certain")
    assert not any(step.clipped for step in events.steps[:8])


# --- 19: bf16 on a card without it --------------------------------------------------------------


@pytest.mark.defect(19, "unsupported-precision", "P")
@pytest.mark.parametrize("card", ["v100", "t4"])
def test_bf16_is_refused_on_a_card_that_does_not_compute_in_it(
    plan_json: Plan, write: Callable[..., Path], card: str
) -> None:
    run_file = write(precision="bf16")
    assert finding(plan_json(run_file, "--device", "l4")[1], "unsupported-precision") is None
    assert finding(plan_json(write(), "--device", card)[1], "unsupported-precision") is None
    code, plan = plan_json(write(precision="bf16"), "--device", card)
    found = finding(plan, "unsupported-precision")
    assert found is not None
    assert (code, found["level"]) == (3, "refuse")
    assert "fp32" in found["way_out"]


# --- 25: batches that ran out of memory ---------------------------------------------------------


def run_out_of_memory_at(step: int, patch: pytest.MonkeyPatch) -> None:
    """Let the second micro-batch of a step be too large for the device."""
    seen = {"step": 0, "micro_batch": 0}

    def losses(loaded: Any, scorer: Any, batch: MicroBatch) -> Any:
        seen["micro_batch"] += 1
        if seen["step"] == step and seen["micro_batch"] == 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return token_losses(loaded, scorer, batch)

    def begin(*args: Any, step: int, **settings: Any) -> StepResult:
        seen.update(step=step, micro_batch=0)
        return take_step(*args, step=step, **settings)

    patch.setattr("tunebook.step.update.token_losses", losses)
    patch.setattr("tunebook.train.loop.take_step", begin)


def skip_the_step(patch: pytest.MonkeyPatch) -> None:
    """Catch the error around the step and log NaN, as notebook 004 did."""
    run_out_of_memory_at(3, patch)
    from tunebook.train import loop

    whole = loop.take_step

    def caught(*args: Any, **settings: Any) -> StepResult:
        try:
            return whole(*args, **settings)
        except StepOutOfMemory:
            nan = float("nan")
            tokens = sum(int(batch.target.sum()) for batch in args[4])
            return StepResult(nan, tokens, nan, False, False, None, None, ())

    patch.setattr(loop, "take_step", caught)


def skip_the_micro_batch(patch: pytest.MonkeyPatch) -> None:
    """Catch the error around one micro-batch, and update with what is left of the step."""
    run_out_of_memory_at(3, patch)
    from tunebook.train import loop

    whole = loop.take_step

    def caught(*args: Any, **settings: Any) -> StepResult:
        try:
            return whole(*args, **settings)
        except StepOutOfMemory:
            return whole(*args[:4], args[4][:1], **settings)

    patch.setattr(loop, "take_step", caught)


SMALL = {"max_steps": 5, "effective_batch_size": 4, "micro_batch_size": 2}


@pytest.mark.defect(25, "skipped-batches", "T")
@pytest.mark.parametrize(
    ("break_it", "missing"), [(skip_the_step, 4), (skip_the_micro_batch, 2)], ids=["step", "batch"]
)
def test_batches_that_ran_out_of_memory_are_counted_and_named_at_once(
    write: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    break_it: Callable[[pytest.MonkeyPatch], None],
    missing: int,
) -> None:
    healthy = train_here(write(name="healthy", train=SMALL, **BARE))
    assert not FAULTS & verdicts(healthy).keys()
    rows = [example.id for example in healthy.steps[2].examples]
    break_it(monkeypatch)
    events = train_here(write(name="skipping", train=SMALL, **BARE))
    found = verdicts(events)["skipped_batches"]
    assert (found.step, found.evidence["missing"], found.evidence["rows"]) == (3, missing, 4)
    trained = {example.id for example in events.steps[2].examples}
    assert sorted(found.evidence["examples"]) == sorted(set(rows) - trained)
    assert math.isnan(events.steps[2].loss) == (break_it is skip_the_step)
    assert ("loss is NaN" in found.cause) == (break_it is skip_the_step)
    assert len(events.steps) == 5


@pytest.mark.defect(25, "skipped-batches", "T")
def test_a_run_may_end_at_the_first_skipped_batch(
    write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    skip_the_micro_batch(monkeypatch)
    run_file = write(name="skipping", train=SMALL, stop_on=["skipped_batches"], **BARE)
    with pytest.raises(RunEnded, match="step 3 did not train 2 of its 4 examples") as ended:
        train_here(run_file)
    assert ended.value.exit_code == 1
