"""Memory that runs out and numbers that are none, injected into single steps of a run."""

from __future__ import annotations

import json
import math
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tunebook.book.checkpoints import list_checkpoints
from tunebook.book.events import EventWriter, next_attempt, read_events
from tunebook.book.places import RunFolder, create_book
from tunebook.book.plans import write_plan
from tunebook.errors import RunEnded, TunebookError
from tunebook.workflows import before, training
from tunebook.workflows.train import load_recipe, start_run

STEPS = 6


def start(book: Path, model: Path, name: str, **train: Any) -> RunFolder:
    rows = [{"instruction": f"Say {n}", "output": f"That is {n}."} for n in range(60)]
    (book / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    values = {
        "name": name,
        "model": str(model),
        "data": [{"path": str(book / "rows.json")}],
        "template": "alpaca",
        "validation": {"fraction": 0.0},
        "evaluate": {"prompts": []},
        "train": {"max_steps": STEPS, "effective_batch_size": 8, **train},
        "checkpoint": {"every": 2},
        "accept": ["random-base"],
    }
    return start_run(book, load_recipe(values, (), book))


def go_on(run: RunFolder) -> None:
    with EventWriter(run, next_attempt(run)) as events:
        training.run_to_end(run, events, lambda: None, lambda: None)


@pytest.fixture(autouse=True)
def planned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take eight rows without planning, which takes longer than all of these runs."""

    def plan_run(run: before.Run) -> None:
        write_plan(run.run, {"memory": {"resident_bytes": 5}})
        run.micro_batch_size = 8
        before.build(run, None, False)

    monkeypatch.setattr(training, "plan_run", plan_run)


def losses(run: RunFolder) -> list[float]:
    return [step.loss for step in read_events(run).steps]


def run_out_of_memory(monkeypatch: pytest.MonkeyPatch, *, step: int, above: int) -> None:
    """Let the forward pass fail, from a step on, for micro-batches of more than so many rows."""
    import torch

    from tunebook.step import update

    real = update.token_losses
    now = {"step": 0}

    def seed_for(seed: int, at: int, micro_batch: int) -> int:
        now["step"] = at
        return at * 1000 + micro_batch

    def fails(loaded: Any, scorer: Any, batch: Any) -> Any:
        found = real(loaded, scorer, batch)
        if now["step"] >= step and len(batch.lengths) > above:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")
        return found

    monkeypatch.setattr(update, "seed_for", seed_for)
    monkeypatch.setattr(update, "token_losses", fails)


def test_a_batch_out_of_memory_is_halved_named_and_held_against_the_plan(
    book: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = start(book, tiny_model, "whole")
    go_on(whole)
    run = start(book, tiny_model, "run_1")
    with monkeypatch.context() as patch:
        run_out_of_memory(patch, step=4, above=2)
        go_on(run)
    # Eight rows, then four, then two: the same step of the same eight rows, to rounding.
    assert losses(run) == pytest.approx(losses(whole), rel=1e-4)
    events = read_events(run)
    assert events.last_state == "finished"
    assert (events.fact("micro_batch_size"), events.fact("gradient_accumulation_steps")) == (2, 4)
    said = [note for note in events.notes if "ran out of memory" in note]
    assert [note.split("(")[0] for note in said] == [
        "step 4: a micro-batch of 8 rows ",
        "step 4: a micro-batch of 4 rows ",
    ]
    found = json.loads(run.plan_json.read_text())["out_of_memory"]
    assert [(each["step"], each["micro_batch_size"]) for each in found] == [(4, 8), (4, 4)]
    (step_4,) = [s for s in events.steps if s.step == 4]
    assert found[0]["examples"] == [e.id for e in step_4.examples]
    assert found[0]["reached_bytes"] > 0
    assert found[0]["planned_peak_bytes"] == 5
    sizes = {
        path.name: json.loads((path / "state.json").read_text())["micro_batch_size"]
        for path in list_checkpoints(run)
    }
    assert sizes == {"step-2": 8, "step-4": 2, "step-6": 2}


def test_a_stated_size_out_of_memory_pauses_at_the_last_whole_step_and_resumes_bit_equal(
    book: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = start(book, tiny_model, "whole", micro_batch_size=4)
    go_on(whole)
    run = start(book, tiny_model, "run_1", micro_batch_size=4)
    with monkeypatch.context() as patch:
        run_out_of_memory(patch, step=4, above=2)
        with pytest.raises(RunEnded, match=r"step 4: .* 4 rows .* out of memory .*resume run_1`"):
            go_on(run)
    assert [path.name for path in list_checkpoints(run)] == ["step-2", "step-3"]
    assert read_events(run).last_state == "paused"
    go_on(run)
    assert losses(run) == losses(whole)
    assert [p.read_bytes() for p in run.final.glob("*.safetensors")] == [
        p.read_bytes() for p in whole.final.glob("*.safetensors")
    ]


@pytest.mark.parametrize("where", ["gradient", "loss", "batch", "weights", "optimizer"])
def test_a_number_that_is_none_is_noticed_at_its_step_with_its_rows(
    book: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    run = start(book, tiny_model, "run_1", non_finite_limit=1)
    inject(monkeypatch, where, step=4)
    with pytest.raises(TunebookError):
        go_on(run)
    events = read_events(run)
    assert events.last_state == "stopped"
    (verdict,) = events.verdicts
    (bad,) = [s for s in events.steps if s.step == 4]
    assert (verdict.kind, verdict.step) == ("non_finite", 4)
    rows = [e.id for e in bad.examples if where != "batch" or not math.isfinite(e.loss_sum)]
    assert verdict.evidence["examples"] == rows
    assert len(rows) == (1 if where == "batch" else 8)
    assert any(note.startswith("step 4: ") and rows[0] in note for note in events.notes)
    shown = {"gradient": bad.grad_norm, "optimizer": bad.update_ratio}.get(where, bad.loss)
    assert shown is not None
    assert math.isnan(shown)
    # What was saved last are numbers, whatever came after.
    newest = list_checkpoints(run)[-1] / "model.safetensors"
    assert newest.parent.name == ("step-2" if where in ("weights", "optimizer") else "step-4")
    from safetensors.torch import load_file

    assert all(tensor.isfinite().all() for tensor in load_file(newest).values())


def inject(monkeypatch: pytest.MonkeyPatch, where: str, step: int) -> None:
    """Put a NaN somewhere, once, before or in the middle of a step."""
    import torch

    from tunebook.step import update
    from tunebook.step.forward import TokenLosses
    from tunebook.step.optimization import Optimization
    from tunebook.train import loop

    real_step, real_losses, real_norm = loop.take_step, update.token_losses, Optimization.grad_norm
    now = {"step": 0}

    def take_step(loaded: Any, scorer: Any, optimization: Any, *rest: Any, **named: Any) -> Any:
        now["step"] = named["step"]
        if named["step"] == step and where in ("weights", "optimizer"):
            parameter = list(optimization.masters.values())[-1]
            state = optimization.optimizer.state[parameter]
            target = parameter.data if where == "weights" else state["exp_avg"]
            target.view(-1)[-1] = math.nan
        return real_step(loaded, scorer, optimization, *rest, **named)

    def token_losses(loaded: Any, scorer: Any, batch: Any) -> Any:
        found = real_losses(loaded, scorer, batch)
        if now["step"] != step or where not in ("loss", "batch"):
            return found
        scale = torch.ones_like(found.losses_M)
        scale[slice(None) if where == "loss" else slice(0, 1)] = math.nan
        return TokenLosses(found.loss_sum * math.nan, found.losses_M * scale)

    def grad_norm(self: Any) -> Any:
        if now["step"] == step and where == "gradient":
            next(iter(self.masters.values())).grad.view(-1)[0] = math.nan
        return real_norm(self)

    monkeypatch.setattr(loop, "take_step", take_step)
    monkeypatch.setattr(update, "token_losses", token_losses)
    monkeypatch.setattr(Optimization, "grad_norm", grad_norm)


SCRIPTS = Path(__file__).resolve().parents[2] / "benchmarks" / "faults_io"


def names_of(*labels: str) -> list[str]:
    """Take some of the names that `names.py` trains in by the dozen."""
    listed = runpy.run_path(str(SCRIPTS / "odd_names.py"))["NAMES"]
    return [os.fsdecode(listed[label]) for label in labels]


@pytest.mark.slow
def test_folders_of_odd_names_and_owners_train_or_are_refused_in_a_sentence() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / "names.py")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]


@pytest.mark.parametrize(
    "name", names_of("quotes", "unicode", "command", "newline", "255 bytes", "YAML")
)
def test_a_book_trains_in_a_folder_of_any_name(tmp_path: Path, tiny_model: Path, name: str) -> None:
    run = start(create_book(tmp_path / name), tiny_model, "run_1", max_steps=2)
    go_on(run)
    assert read_events(run).last_state == "finished"
    assert run.name in build_notebook_of(run)


def build_notebook_of(run: RunFolder) -> str:
    from tunebook.workflows.notebook import build_notebook

    build_notebook(run.book)
    return run.notebook_md.read_text(encoding="utf-8")
