"""Logs that look odd and are healthy, or hold next to nothing, name no fault and break nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from made_logs import harder, log_of, made_steps
from tunebook.kinds import FAULTS
from tunebook.records import ExampleLoss, StepRecord, ValidationRecord
from tunebook.watch.diagnose import diagnose
from tunebook.watch.divergence import find_divergence, find_rising_loss
from tunebook.watch.grad_norm_warning import find_grad_norm_warning
from tunebook.watch.large_updates import find_large_updates
from tunebook.watch.run_log import RunFacts, RunLog


def kinds(log: RunLog) -> list[str]:
    return [verdict.kind for verdict in diagnose(log) if verdict.kind in FAULTS]


def small_batches(n_steps: int, batch: int, seed: int, sources: int = 1) -> list[StepRecord]:
    """Steps of few rows, whose losses are all over the place."""
    random = np.random.default_rng(seed)
    steps = []
    for step, base in enumerate(made_steps(n_steps, seed=seed)):
        level = 2.2 - 0.1 * step / n_steps
        names = [f"part-{k}" for k in random.integers(0, sources, batch)]
        losses = level + 0.5 * random.standard_normal(batch)
        counts = random.integers(5, 60, batch)
        examples = tuple(
            ExampleLoss(f"{name}#{step * batch + k}", float(loss * n), int(n))
            for k, (name, loss, n) in enumerate(zip(names, losses, counts, strict=True))
        )
        total = sum(e.loss_sum for e in examples)
        tokens = {name: int(counts[[m == name for m in names]].sum()) for name in set(names)}
        steps.append(
            replace(
                base,
                examples=examples,
                target_tokens=int(counts.sum()),
                loss_sum=total,
                loss=total / int(counts.sum()),
                sources=tokens,
                canary_loss=level + 0.01 * float(random.standard_normal()),
            )
        )
    return steps


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_small_batches_of_two_sources_are_noise(batch: int) -> None:
    found = [kinds(log_of(small_batches(200, batch, seed, sources=2))) for seed in range(12)]
    assert sum(map(bool, found)) <= 1, found


def test_losses_that_vary_by_themselves_do_not_diverge() -> None:
    for seed in range(12):
        steps = small_batches(120, 1, seed)
        assert find_divergence(log_of(steps)) is None
        assert find_divergence(log_of([replace(s, canary_loss=None) for s in steps])) is None


def test_data_that_gets_harder_while_held_out_text_does_not_is_no_divergence() -> None:
    steps = [harder(s, 0.8 * max(s.step - 60, 0) / 100) for s in made_steps()]
    assert find_divergence(log_of(steps)) is None


def test_a_loss_that_leaves_with_the_canary_diverges() -> None:
    steps = [
        replace(harder(s, 4.0 * (s.step > 100)), canary_loss=6.0 if s.step > 100 else 2.0)
        for s in made_steps()
    ]
    found = find_divergence(log_of(steps))
    assert found is not None
    assert 98 <= (found.step or 0) <= 106


def test_a_loss_that_rises_at_the_end_is_told_from_one_that_does_not() -> None:
    assert find_rising_loss(log_of(made_steps())) is None
    steps = [harder(s, 0.02 * max(s.step - 120, 0)) for s in made_steps()]
    assert find_rising_loss(log_of(steps)) is not None


def test_gradients_that_grow_are_warned_of_before_the_loss_moves() -> None:
    assert find_grad_norm_warning(log_of(made_steps())) is None
    steps = [replace(s, grad_norm=s.grad_norm * (20 if s.step > 100 else 1)) for s in made_steps()]
    found = find_grad_norm_warning(log_of(steps))
    assert found is not None
    assert found.step == 101


def test_updates_that_rewrite_the_weights_are_named_unless_they_knew_nothing() -> None:
    steps = [replace(s, update_ratio=0.03) for s in made_steps()]
    found = find_large_updates(log_of(steps, vocabulary_size=50_000))
    assert found is not None
    assert found.kind == "lr_too_high"
    assert find_large_updates(log_of(steps, vocabulary_size=20)) is None
    assert find_large_updates(log_of(made_steps(), vocabulary_size=50_000)) is None


def test_packed_rows_hold_their_examples_in_one_order_every_epoch() -> None:
    random = np.random.default_rng(0)
    order = [row for _ in range(3) for row in random.permutation(40)]
    steps = []
    for place, base in enumerate(made_steps(60)):
        rows = order[2 * place : 2 * place + 2]
        examples = tuple(ExampleLoss(f"rows#{r}.{k}", 20.0, 10) for r in rows for k in range(12))
        steps.append(replace(base, examples=examples, epoch=(place + 1) / 20))
    log = log_of(steps, steps_per_epoch=20, effective_batch_size=2)
    assert "repeated_rows" not in kinds(log)


def test_first_updates_that_were_left_out_belong_to_the_warm_up() -> None:
    rates = [0.0, 0.0, *(1e-6 * k for k in range(1, 41))]
    steps = [
        replace(s, learning_rate=rates[min(s.step - 1, 41)], canary_loss=None) for s in made_steps()
    ]
    assert kinds(log_of(steps)) == []


def test_a_short_run_at_a_usual_rate_is_not_called_too_slow() -> None:
    validations = [
        ValidationRecord(step, loss, loss * 100, 100, 9, 9, 99, "h", None, {}, 0.1)
        for step, loss in ((0, 3.0), (25, 2.9))
    ]
    steps = [replace(s, update_ratio=3e-4) for s in made_steps(25)]
    log = RunLog(steps, validations, RunFacts(total_steps=25, method="full"))
    assert "lr_too_low" not in kinds(log)


def test_a_single_spike_in_a_falling_curve_of_others_is_seen() -> None:
    random = np.random.default_rng(1)
    losses = 1.3 + 3.5 * np.exp(-np.arange(100) / 30) + 0.04 * random.standard_normal(100)
    losses[50] += 3.0
    bare = [
        replace(s, loss=float(loss), canary_loss=None, examples=(), sources={}, step=10 * s.step)
        for s, loss in zip(made_steps(100), losses, strict=True)
    ]
    found = [v for v in diagnose(log_of(bare)) if v.kind in FAULTS]
    assert [(v.kind, v.step) for v in found] == [("spike_isolated", 510)]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("n_steps", [0, 1, 2, 5, 30])
def test_logs_of_next_to_nothing_break_no_detector(n_steps: int) -> None:
    steps = made_steps(30)[:n_steps]
    nothing = {
        "loss": float("nan"),
        "canary_loss": None,
        "grad_norm": None,
        "learning_rate": None,
        "update_ratio": None,
        "target_tokens": None,
        "clipped": None,
        "epoch": None,
        "examples": (),
        "sources": {},
    }
    diagnose(log_of(steps))
    diagnose(RunLog([replace(s, **nothing) for s in steps]))  # type: ignore[arg-type]
    late = [replace(s, canary_loss=s.canary_loss if s.step > 12 else None) for s in steps]
    diagnose(log_of(late))
    empty = [replace(s, examples=(ExampleLoss("a#1", 0.0, 0),), target_tokens=0) for s in steps]
    diagnose(log_of(empty))
    rare = [replace(s, learning_rate=1e-3 if s.step % 10 == 0 else None) for s in steps]
    assert not any("nan" in change for v in diagnose(log_of(rare)) for change in v.changes)
