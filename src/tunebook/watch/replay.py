"""What taking a step again with one change at a time says of the cause of its spike."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from tunebook.records import Verdict
from tunebook.trials import Trial
from tunebook.watch.changes import LEAD, Change
from tunebook.watch.robust import spread
from tunebook.watch.run_log import RunLog

REMOVED_FRACTION = 0.2
"""At most so much of the spike is left. Half the learning rate leaves a half of what one bad update
did to the loss, or a quarter where its curvature did it: neither counts as removed."""
REMOVED_NATS = 0.5
HURT_NATS = 0.05
HIGH_NATS = 0.1
_SCALES = 6.0
_RECENT = 48
_NEAR = 8

Measure = Literal["canary", "loss"]


@dataclass(frozen=True, slots=True)
class Course:
    """Losses of batches and of the canary after each step's update, by step."""

    loss: dict[int, float] = field(default_factory=dict)
    canary: dict[int, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Spike:
    """Where it is looked for, and against what: the usual loss of a batch before, and its spread.

    All in nats; `scale` is 0 with fewer than eight steps before.
    """

    step: int
    last_step: int
    level: float
    scale: float

    def height(self, course: Course, measure: Measure) -> float:
        """Tell how far a course's spike stands out; infinite where a loss is no number.

        Of the canary: from its lowest value in the steps before to its highest from the step on.
        Of the loss: that of the step's batch above what was usual, weights before its update.
        """
        if measure == "loss":
            return _number(course.loss[self.step]) - self.level
        before = [
            course.canary[s] for s in range(self.step - LEAD, self.step) if s in course.canary
        ]
        after = [course.canary[s] for s in range(self.step, self.last_step + 1)]
        return max(map(_number, after)) - min(map(_number, before))

    def measure(self, control: Course) -> Measure | None:
        """Tell by what a spike is measured: whether weights were hurt, or only a batch is high."""
        steps = sorted(s for s in control.canary if s < self.step)[-_RECENT:]
        changes = np.diff([control.canary[s] for s in steps])
        # About their median: while the canary falls, that it falls is no noise.
        usual = float(np.median(np.abs(changes - np.median(changes)))) if len(changes) else 0.0
        if self.height(control, "canary") >= max(HURT_NATS, _SCALES * usual):
            return "canary"
        if self.height(control, "loss") >= max(HIGH_NATS, _SCALES * self.scale):
            return "loss"
        return None


def spike_at(log: RunLog, step: int, last_step: int) -> Spike:
    """Give what a step of a log is held against: the eight steps before it.

    The spread is that of the changes from step to step over 48, for the loss may be falling.
    """
    at = int(np.searchsorted(log.step, step))
    before = log.loss[max(at - _RECENT, 0) : at]
    before = before[np.isfinite(before)]
    level = float(np.median(before[-_NEAR:])) if len(before) else float(log.loss[at])
    scale = spread(before) if len(before) >= _NEAR else 0.0
    return Spike(step, last_step, level, scale)


def judge_trial(
    spike: Spike, measure: Measure, control: Course, change: Change, course: Course
) -> Trial:
    """Hold what a change came to against the control."""
    height = spike.height(course, measure)
    most = min(REMOVED_FRACTION * spike.height(control, measure), REMOVED_NATS)
    steps = range(spike.step, spike.last_step + 1)
    return Trial(
        name=change.name,
        change=change.words,
        first_step=change.first_step,
        new=change.new,
        losses=tuple(course.loss[s] for s in steps),
        canary=tuple(course.canary[s] for s in steps),
        height=height,
        removed=height <= most,
    )


def name_cause(
    spike: Spike,
    measure: Measure,
    trials: Sequence[Trial],
    changes: Mapping[str, Change],
    rows: Mapping[str, str],
) -> Verdict:
    """Name the single change that removes a spike as its cause; undecided where none or several do.

    What calms any spike (a tenth of the rate, clipping where nothing was switched) counts only
    where nothing that was new at the step removes it. `trials` begin with the control.
    """
    control, *others = trials
    removers = [t for t in others if t.removed and t.new] or [t for t in others if t.removed]
    if any(t.name == "other example" for t in removers):  # its row is among the rows of the step
        removers = [t for t in removers if t.name != "other rows"]
    series = "canary rises" if measure == "canary" else "loss stands out"
    evidence: dict[str, object] = {
        "measure": f"nats that the {series} by",
        "as it was": control.height,
        **{trial.change: trial.height for trial in others},
    }
    verdict = Verdict(
        kind="spike_isolated",
        step=spike.step,
        last_step=spike.step,
        cause="",
        confidence="undecided",
        evidence=evidence,
        next_action="replay the steps before it, where the spike may have begun",
    )
    left = _heights([t for t in others if not t.removed])
    if len(removers) != 1:
        none = f"no change that was tried removes the {control.height:.2g} nats"
        several = f"more than one change removes the {control.height:.2g} nats: "
        said = f"{several}{_heights(removers)}" if removers else none
        return replace(verdict, cause=f"by experiment, {said}{f'; left: {left}' if left else ''}")
    [single] = removers
    change = changes[single.name]
    kind = change.kind
    if single.name == "other rows":
        kind = "bad_example" if len(rows) == 1 else "bad_batch"
    if kind in ("bad_batch", "bad_example"):
        named = [change.example] if change.example else list(rows)
        evidence["rows"] = {name: rows[name] for name in named if name in rows}
    calmed = [t.change for t in others if t.removed and not t.new and t is not single]
    calmer = f"; so does {' or '.join(calmed)}, as a calmer step would" if calmed else ""
    return replace(
        verdict,
        kind=kind,
        cause=f"by experiment, {single.change} removes it: the {series} by {single.height:.2g} in "
        f"place of {control.height:.2g} nats{calmer}{f'; left: {left}' if left else ''}",
        confidence="certain",
        next_action=_next_action(kind, change),
        changes=(change.setting,) if change.setting else (),
    )


def _heights(trials: Sequence[Trial]) -> str:
    return ", ".join(f"{t.height:.2g} with {t.change}" for t in trials)


def _next_action(kind: str, change: Change) -> str:
    match kind:
        case "bad_batch" | "bad_example":
            return "look at these rows, mend them or leave them out, and train again"
        case "clip_switch":
            return "keep gradient clipping as it was before"
        case "peak_lr" | "lr_jump" | "lr_too_high":
            return "train with a lower learning rate"
    if change.another_seed:
        return "train again with another seed: nothing but chance caused it"
    return "train with other clipping"


def _number(loss: float) -> float:
    return loss if math.isfinite(loss) else math.inf
