"""Each cause of a spike, planted in the log of a healthy run, is named where it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from made_logs import STEPS, harder, hurt, log_of, made_steps, with_losses
from tunebook.kinds import FAULTS
from tunebook.records import StepRecord, Verdict
from tunebook.watch.diagnose import diagnose
from tunebook.watch.run_log import RunLog

AT = 80


def faults(log: RunLog) -> list[Verdict]:
    return [verdict for verdict in diagnose(log) if verdict.kind in FAULTS]


def only_fault(log: RunLog) -> Verdict:
    found = faults(log)
    assert [v.kind for v in found] == [found[0].kind] if found else found, [v.cause for v in found]
    return found[0]


def after(
    steps: list[StepRecord], change: Callable[[StepRecord, int], StepRecord]
) -> list[StepRecord]:
    return [change(s, s.step - AT) if s.step >= AT else s for s in steps]


@pytest.mark.parametrize("seed", range(6))
def test_a_healthy_run_has_no_fault_and_it_is_said(seed: int) -> None:
    found = diagnose(log_of(made_steps(seed=seed, warmup=10 * (seed % 2))))
    assert [v.kind for v in found if v.kind in FAULTS] == []
    assert found[-1].kind == "no_fault_found"
    assert "validations" not in found[-1].evidence["looked_for"]  # type: ignore[operator]


def test_one_garbled_example_is_named_by_its_id() -> None:
    steps = made_steps()
    steps[AT - 1] = with_losses(steps[AT - 1], {3: 9.0})
    found = only_fault(log_of(steps))
    assert (found.kind, found.step) == ("bad_example", AT)
    assert found.evidence["examples"] == [steps[AT - 1].examples[3].id]


def test_a_batch_that_is_hard_at_the_same_weights_is_the_data() -> None:
    steps = made_steps()
    steps[AT - 1] = harder(steps[AT - 1], 4.0)
    found = only_fault(log_of(steps))
    assert (found.kind, found.step, found.last_step) == ("bad_batch", AT, AT)


def test_without_canary_and_examples_a_spike_of_one_step_is_undecided() -> None:
    steps = made_steps()
    steps[AT - 1] = harder(steps[AT - 1], 4.0)
    bare = [replace(s, canary_loss=None, examples=()) for s in steps]
    found = only_fault(log_of(bare))
    assert (found.kind, found.confidence, found.step) == ("spike_isolated", "undecided", AT)


def test_wrong_targets_from_a_step_on_are_found_there() -> None:
    steps = after(made_steps(), lambda s, n: harder(s, 1.0))
    found = only_fault(log_of(steps))
    assert found.kind == "corrupted_targets"
    assert abs((found.step or 0) - AT) <= 1


def test_another_source_explains_a_harder_batch() -> None:
    def switch(step: StepRecord, _: int) -> StepRecord:
        return replace(harder(step, 1.0), sources={"other": step.tokens})

    found = only_fault(log_of(after(made_steps(), switch)))
    assert (found.kind, found.step) == ("data_boundary", AT)
    assert found.evidence["to"] == "other"


def test_a_learning_rate_that_jumps_is_the_cause_of_what_follows() -> None:
    def jump(step: StepRecord, n: int) -> StepRecord:
        return replace(hurt(step, min(0.2 * n, 3.0)), learning_rate=1e-2)

    found = only_fault(log_of(after(made_steps(warmup=20), jump), learning_rate=1e-3))
    assert (found.kind, found.step, found.confidence) == ("lr_jump", AT, "certain")
    assert found.changes == ("train.learning_rate=0.001",)
    assert found.evidence["followed_by"]


def test_a_learning_rate_that_creeps_up_is_found_where_it_begins() -> None:
    def ramp(step: StepRecord, n: int) -> StepRecord:
        return replace(step, learning_rate=1e-3 * min(10.0, 10 ** ((n + 1) / 30)))

    found = only_fault(log_of(after(made_steps(), ramp)))
    assert (found.kind, found.step) == ("lr_jump", AT)


def test_a_warm_up_and_a_cosine_are_no_jumps() -> None:
    steps = made_steps(warmup=40)
    steps = [
        replace(
            s, learning_rate=s.learning_rate * (1 if s.step <= 40 else np.cos((s.step - 40) / 90))
        )
        for s in steps
    ]
    assert faults(log_of(steps)) == []


def test_weights_hurt_near_the_peak_name_the_peak() -> None:
    steps = [
        hurt(s, 0.1 * max(s.step - 32, 0) if s.step < 60 else 2.8)
        for s in made_steps(warmup=40, rate=5e-3)
    ]
    found = only_fault(log_of(steps, warmup_steps=40))
    assert found.kind == "peak_lr"
    assert 30 <= (found.step or 0) <= 40
    assert found.changes[0].startswith("train.learning_rate=")
    assert "0.005 being the peak at step 40" in found.cause


def test_weights_hurt_from_the_start_name_the_learning_rate() -> None:
    steps = [hurt(s, min(0.4 * s.step, 3.0) - 0.4) for s in made_steps()]
    assert only_fault(log_of(steps)).kind == "lr_too_high"


def test_clipping_that_begins_in_the_middle_is_named() -> None:
    steps = [replace(s, grad_norm=s.grad_norm * 3) for s in made_steps()]
    steps = after(steps, lambda s, _: replace(s, clipped=s.grad_norm > 1.0))
    found = only_fault(log_of(steps))
    assert (found.kind, found.step) == ("clip_switch", AT)
    assert "begins" in found.cause


def test_one_limit_throughout_is_no_switch_however_few_it_clips() -> None:
    steps = [replace(s, clipped=s.grad_norm > 1.3) for s in made_steps()]
    assert faults(log_of(steps)) == []


@pytest.mark.parametrize("factor", [2.0, 0.25, 16.0])
def test_gradients_on_another_scale_are_told_from_an_unstable_run(factor: float) -> None:
    steps = after(made_steps(), lambda s, _: replace(s, grad_norm=s.grad_norm * factor))
    found = only_fault(log_of(steps))
    assert found.kind == "gradient_scale"
    assert abs((found.step or 0) - AT) <= 1


def test_a_resume_without_optimizer_state_shows_in_its_first_update() -> None:
    steps = made_steps()
    steps[AT] = replace(steps[AT], update_ratio=5e-3)
    assert faults(log_of(steps)) == []
    found = only_fault(log_of(steps, resumed_after=(AT,)))
    assert (found.kind, found.step) == ("resumed_state", AT + 1)


def test_a_proper_resume_is_no_fault() -> None:
    assert faults(log_of(made_steps(), resumed_after=(40, 90))) == []


def test_rows_that_are_read_twice_are_named() -> None:
    steps = made_steps()
    for place in range(AT, AT + 5):
        steps[place] = replace(steps[place], examples=steps[place - 20].examples)
    found = only_fault(log_of(steps))
    assert (found.kind, found.step, found.last_step) == ("repeated_rows", AT + 1, AT + 5)
    assert found.evidence["first_trained_at"] == AT - 19


def test_epochs_in_one_order_are_no_repeats() -> None:
    steps = made_steps()
    half = STEPS // 2
    steps = [replace(s, examples=steps[(s.step - 1) % half].examples) for s in steps]
    assert "repeated_rows" not in [v.kind for v in faults(log_of(steps, steps_per_epoch=half))]


def test_targets_on_padding_are_a_fact() -> None:
    steps = after(made_steps(), lambda s, _: replace(s, padding_tokens=9, padding_target_tokens=9))
    found = only_fault(log_of(steps))
    assert (found.kind, found.step, found.confidence) == ("padding_or_length", AT, "certain")


def test_answers_cut_short_for_some_steps_are_seen_in_their_lengths() -> None:
    def cut(step: StepRecord, n: int) -> StepRecord:
        if n >= 20:
            return step
        examples = tuple(
            replace(e, loss_sum=e.loss_sum / 3, target_tokens=max(e.target_tokens // 3, 1))
            for e in step.examples
        )
        return replace(
            step, examples=examples, target_tokens=sum(e.target_tokens for e in examples)
        )

    found = only_fault(log_of(after(made_steps(), cut)))
    assert found.kind == "padding_or_length"
    assert abs((found.step or 0) - AT) <= 1
    assert AT + 15 <= (found.last_step or 0) <= AT + 28


def test_a_staircase_at_epochs_is_no_fault() -> None:
    steps = [harder(s, -0.25 * ((s.step - 1) // 40)) for s in made_steps()]
    assert faults(log_of(steps, steps_per_epoch=40)) == []


def test_columns_that_are_not_known_stop_no_other_detector() -> None:
    bare = [
        replace(
            s, canary_loss=None, examples=(), sources={}, update_ratio=None, changed_fraction=None
        )
        for s in made_steps()
    ]
    found = {v.kind: v for v in diagnose(log_of(bare))}
    assert found.keys() == {"no_validation", "no_fault_found"}
    assert "bad_example" in str(found["no_fault_found"].evidence["not_looked_for"])
