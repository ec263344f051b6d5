"""Logs of the fault benchmark: packed and read again, what a detector looks at is the same."""

from __future__ import annotations

import importlib.util
import math
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from made_runs import make_step, make_validation
from tunebook.records import ExampleLoss
from tunebook.watch.run_log import RunFacts, RunLog

SCRIPT = Path(__file__).resolve().parents[3] / "benchmarks" / "faults" / "logs.py"


@pytest.fixture(scope="module")
def logs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fault_logs", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["fault_logs"] = module  # its dataclasses look themselves up by name
    spec.loader.exec_module(module)
    return module


def _run(logs: ModuleType, **changes: object) -> object:
    steps = [replace(make_step(n, 3.0 / n), canary_loss=2.0 + n / 7) for n in range(1, 6)]
    steps[2] = replace(
        steps[2],
        loss=math.inf,
        grad_norm=math.nan,
        applied=False,
        update_ratio=None,
        changed_fraction=None,
        canary_loss=None,
        padding_tokens=4,
        padding_target_tokens=3,
        target_tokens=12,
        tokens=44,
        lengths=(20, 24),
        examples=(ExampleLoss("sayings#3", math.inf, 5), ExampleLoss("other#3", 21.0, 7)),
    )
    documents = tuple(ExampleLoss(f"held#{n}", 2.5 * n, n) for n in range(1, 4))
    validations = [
        replace(
            make_validation(step, 3.0 - step / 10),
            per_document=tuple(replace(d, loss_sum=d.loss_sum - step / 10) for d in documents),
        )
        for step in (0, 5)
    ]
    facts = RunFacts(total_steps=5, resumed_after=(2,), validation_overlap=(1, 3))
    made = {
        "name": "garbage_batch-clear-1",
        "split": "tuning",
        "substrate": "gpt",
        "seed": 1,
        "fault": "garbage_batch",
        "kind": "bad_batch",
        "strength": "clear",
        "first_step": 3,
        "last_step": 3,
        "ids": ("other#3",),
        "log": RunLog(steps, validations, facts),
    }
    return logs.LoggedRun(**(made | changes))


def test_what_is_packed_is_read_again_as_it_was(logs, tmp_path) -> None:
    runs = [_run(logs), _run(logs, name="healthy-1", fault=None, kind=None, ids=())]
    logs.write_logs(tmp_path / "tuning" / "gpt.npz", runs)
    found = logs.read_split("tuning", tmp_path)
    assert [replace(run, log=None) for run in found] == [replace(run, log=None) for run in runs]
    for before, after in zip(runs[1].log.steps, found[1].log.steps, strict=True):
        assert after.step == before.step
        assert after.loss == pytest.approx(before.loss, rel=1e-4)
        if before.canary_loss is not None:
            assert after.canary_loss == pytest.approx(before.canary_loss, rel=1e-4)
        assert after.grad_norm == pytest.approx(before.grad_norm, rel=1e-4, nan_ok=True)
        assert (after.clipped, after.applied) == (before.clipped, before.applied)
        assert after.lengths == before.lengths
        assert after.target_tokens == before.target_tokens
        assert [e.id for e in after.examples] == [e.id for e in before.examples]
        for old, new in zip(before.examples, after.examples, strict=True):
            assert new.target_tokens == old.target_tokens
            assert new.loss_sum == pytest.approx(old.loss_sum, rel=1e-3)


def test_a_step_that_was_left_out_stays_left_out(logs, tmp_path) -> None:
    logs.write_logs(tmp_path / "gpt.npz", [_run(logs)])
    (found,) = logs.read_logs(tmp_path / "gpt.npz")
    step = found.log.steps[2]
    assert step.loss == math.inf
    assert math.isnan(step.grad_norm)
    assert (step.applied, step.update_ratio, step.canary_loss) == (False, None, None)
    assert (step.padding_tokens, step.padding_target_tokens) == (4, 3)
    assert step.sources == {"sayings": 20, "other": 24}


def test_losses_of_documents_are_kept_over_validations(logs, tmp_path) -> None:
    run = _run(logs)
    logs.write_logs(tmp_path / "gpt.npz", [run])
    (found,) = logs.read_logs(tmp_path / "gpt.npz")
    assert found.log.facts == run.log.facts
    for before, after in zip(run.log.validations, found.log.validations, strict=True):
        assert (after.step, after.loss) == (before.step, before.loss)
        assert after.loss_sum == pytest.approx(before.loss_sum)
        assert after.interval == pytest.approx(before.interval, rel=1e-3)
        for old, new in zip(before.per_document, after.per_document, strict=True):
            assert (new.id, new.target_tokens) == (old.id, old.target_tokens)
            assert new.loss_sum == pytest.approx(old.loss_sum, rel=1e-3)
