"""Runs of the fault benchmark have the fault that their label says, and no other."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tunebook.kinds import KINDS
from tunebook.records import Tokens

FOLDER = Path(__file__).resolve().parents[3] / "benchmarks" / "faults"
STEPS = 16


@pytest.fixture(scope="module")
def bench() -> SimpleNamespace:
    """The benchmark's modules, which import each other as scripts do."""
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(str(FOLDER))
        import inject
        import logs
        import runs
        import substrates

        yield SimpleNamespace(inject=inject, logs=logs, runs=runs, substrates=substrates)
        for name in ("inject", "logs", "runs", "substrates", "reading", "quick"):
            sys.modules.pop(name)


@pytest.fixture(scope="module")
def material(bench: SimpleNamespace) -> object:
    random = np.random.default_rng(1)

    def rows(name: str, n: int) -> list[Tokens]:
        found = []
        for number in range(1, n + 1):
            length = int(random.integers(8, 14))
            ids = (1, *random.integers(3, 20, length).tolist(), 2)
            target = (False, False, False, *[True] * (length - 1))
            found.append(Tokens(f"{name}#{number}", f"{name}#{number}", ids, target))
        return found

    substrate = bench.substrates.SUBSTRATES["llama-chess"]
    network = bench.substrates.fresh_network(substrate, seed=3, check=True)
    weights = {name: p.detach().clone() for name, p in network.named_parameters()}
    return bench.substrates.Material(
        substrate, weights, rows("own", 200), rows("held", 20), rows("other", 50)
    )


def _run(bench: SimpleNamespace, material: object, fault: str, strength: int, k: int = 9):
    setup = bench.runs.Setup(material, seed=4, steps=STEPS, batch=4, warmup_steps=2)
    setup.schedule = "constant"
    window = bench.inject.FAULTS[fault].inject(setup, strength, k)
    return window, bench.runs.make_log(setup)


def test_a_run_without_fault_is_logged_by_the_loop_itself(bench, material) -> None:
    setup = bench.runs.Setup(material, seed=4, steps=STEPS, batch=4)
    log = bench.runs.make_log(setup)
    assert len(log) == STEPS
    assert log.validations[0].step == 0
    assert log.validations[-1].step == STEPS
    assert len(log.validations[0].per_document) == 20
    assert np.isfinite(log.canary).all()
    assert not any(step.padding_target_tokens for step in log.steps)
    assert log.facts.validation_overlap == (0, 20)


def test_faults_of_the_data_are_where_the_label_says(bench, material) -> None:
    _, log = _run(bench, material, "padding_targets", 1)
    assert [bool(s.padding_target_tokens) for s in log.steps] == [s.step >= 9 for s in log.steps]
    window, log = _run(bench, material, "garbage_example", 2)
    (slot,) = window.slots
    losses = [e.loss_sum / e.target_tokens for e in log.steps[8].examples]
    assert int(np.argmax(losses)) == slot
    _, log = _run(bench, material, "repeated_shard", 1)
    ids = [[e.id for e in s.examples] for s in log.steps]
    assert ids[8:12] == ids[4:8]
    assert len({i for step in ids[:8] for i in step}) == 32
    _, log = _run(bench, material, "domain_switch", 2)
    assert [set(s.sources) for s in log.steps] == [{"own"}] * 8 + [{"other"}] * 8


def test_faults_of_the_optimization_show_in_their_columns(bench, material) -> None:
    _, log = _run(bench, material, "lr_step", 1)
    assert log.learning_rate[8] / log.learning_rate[7] == pytest.approx(10)
    _, log = _run(bench, material, "accumulation_scale", 2)
    assert log.grad_norm[8] > 8 * log.grad_norm[7]
    _, log = _run(bench, material, "frozen", 2)
    assert np.nanmax(log.changed_fraction) < 0.05
    _, log = _run(bench, material, "bf16_sgd", 2)
    assert np.nanmax(log.changed_fraction) < 0.01
    window, log = _run(bench, material, "clip_on_late", 2)
    assert log.clipped.tolist() == [s.step >= window.first for s in log.steps]
    window, log = _run(bench, material, "resumed_without_optimizer", 1)
    assert log.facts.resumed_after == (8,)
    assert log.update_ratio[8] > 1.5 * log.update_ratio[7]
    window, log = _run(bench, material, "overflow", 1)
    skipped = [s.step for s in log.steps if not s.applied]
    assert skipped[0] == window.first
    assert not any(math.isfinite(log.loss[n - 1] + log.grad_norm[n - 1]) for n in skipped)


def test_overlap_with_validation_is_counted_by_what_rows_say(bench, material) -> None:
    _, log = _run(bench, material, "validation_overlap", 2)
    assert log.facts.validation_overlap == (20, 20)


@pytest.mark.slow
def test_committed_labels_name_known_verdicts_within_their_runs(bench) -> None:
    seeds = {}
    for split, healthy in (("tuning", 50), ("scoring", 100), ("confirming", 100)):
        runs = bench.logs.read_split(split)
        seeds[split] = {run.seed for run in runs}
        assert sum(run.fault is None for run in runs) >= healthy
        assert len({run.name for run in runs}) == len(runs)
        for run in runs:
            if run.fault is None:
                assert (run.kind, run.first_step, run.ids) == (None, None, ())
                assert run.log.facts.validation_overlap[0] == 0
            else:
                assert run.kind == bench.inject.FAULTS[run.fault].kind
                assert KINDS[run.kind].level == "fault"
                assert 0 <= run.first_step <= run.last_step <= len(run.log)
                assert bool(run.ids) == (run.fault in ("garbage_batch", "garbage_example"))
    assert len(set.union(*seeds.values())) == sum(map(len, seeds.values()))
