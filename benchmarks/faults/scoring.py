"""How verdicts on runs with a known fault are scored: pure arithmetic, no logs, no detectors.

A label is a kind and a window of steps. What a tool says of a run is a list of `Alarm`; of
tunebook, its verdicts of level fault (notices are no alarms). An alarm is **right** when its step
lies in the window, ends included, and its kind is the label's. There is no tolerance beyond the
window: the label has the first step at which the fault could be seen and the last at which it
still holds. A verdict of tunebook without a step counts as step 0, and a window that begins at
step 1 begins at 0, because what is wrong with the base is wrong before step 1.

A second alarm of the right kind is a duplicate; duplicates, other kinds and other steps are
false. A faulty run without a right alarm is missed. A faulty run is **detected** when any alarm
lies in the window, whatever it names: the only score for tools that name no cause.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median

from scipy import stats

from tunebook.kinds import FAMILIES
from tunebook.statistics.estimate import wilson_interval

STRENGTHS = ("just_visible", "clear", "gross")
SPIKES = frozenset(kind for family in FAMILIES.values() for kind in family)
DECISIVE = ("certain", "likely")
Interval = tuple[float, float]


@dataclass(frozen=True)
class Label:
    """What was done to a run; `kind` is None for a healthy one."""

    name: str
    substrate: str
    fault: str | None = None
    kind: str | None = None
    strength: str | None = None
    first_step: int = 0
    last_step: int = 0
    ids: tuple[str, ...] = ()
    seed: int = 0
    steps: int = 0


@dataclass(frozen=True)
class Alarm:
    """What a tool said of a run; `kind` is None where it names no cause.

    A step of None is of the whole run and lies in every window, in favour of rivals.
    """

    step: int | None
    kind: str | None = None
    confidence: str = "likely"
    ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """One run, its label and what was said of it, alarms by step."""

    label: Label
    alarms: tuple[Alarm, ...]

    def in_window(self, alarm: Alarm) -> bool:
        if self.label.kind is None or alarm.step is None:
            return self.label.kind is not None
        first = 0 if self.label.first_step == 1 else self.label.first_step
        return first <= alarm.step <= self.label.last_step

    @property
    def right(self) -> Alarm | None:
        """The first alarm that names the fault within its window."""
        good = (a for a in self.alarms if a.kind == self.label.kind and self.in_window(a))
        return next(good, None)

    @property
    def false(self) -> tuple[Alarm, ...]:
        """Every alarm but the right one."""
        right = self.right
        return tuple(alarm for alarm in self.alarms if alarm is not right)

    @property
    def detected(self) -> bool:
        return any(self.in_window(alarm) for alarm in self.alarms)


@dataclass(frozen=True)
class KindScore:
    """Counts of one kind, or of all of them pooled, and what follows from them."""

    runs: int
    right: int
    false: int
    detected: int
    delays: tuple[int, ...] = ()

    @property
    def recall(self) -> float:
        return self.right / self.runs if self.runs else math.nan

    @property
    def recall_interval(self) -> Interval:
        return wilson_interval(self.right, self.runs)

    @property
    def precision(self) -> float:
        said = self.right + self.false
        return self.right / said if said else math.nan

    @property
    def f1(self) -> float:
        """2 TP / (2 TP + FP + FN): 0, not unknown, where a kind was never found."""
        wrong = self.false + self.runs - self.right
        return 2 * self.right / (2 * self.right + wrong) if self.right + wrong else math.nan

    @property
    def median_delay(self) -> float | None:
        return median(self.delays) if self.delays else None

    @property
    def exact_step(self) -> float:
        return fmean(delay == 0 for delay in self.delays) if self.delays else math.nan


@dataclass(frozen=True)
class Causes:
    """Incidents that were detected, by whether their first alarm decides on a cause."""

    decided: int = 0
    decided_right: int = 0
    open: int = 0
    open_undecided: int = 0


@dataclass(frozen=True)
class Score:
    """Everything that is told of one tool on one split."""

    faulty: int
    healthy: int
    pooled: KindScore
    kinds: dict[str, KindScore]
    unlabelled: dict[str, int] = field(default_factory=dict)

    @property
    def macro_f1(self) -> float:
        """The mean F1 over kinds that were injected."""
        return fmean(k.f1 for k in self.kinds.values()) if self.kinds else math.nan


def is_faulty(outcome: Outcome) -> bool:
    """Tell whether a fault was injected."""
    return outcome.label.kind is not None


def score(outcomes: Sequence[Outcome], strengths: Collection[str] = STRENGTHS) -> Score:
    """Score the healthy runs and the faulty ones of some strengths, per kind and pooled."""
    faulty = [o for o in outcomes if is_faulty(o) and o.label.strength in strengths]
    healthy = [o for o in outcomes if not is_faulty(o)]
    false = Counter(a.kind for o in faulty + healthy for a in o.false)
    kinds = sorted({str(o.label.kind) for o in faulty})
    by_kind = {
        kind: _counted([o for o in faulty if o.label.kind == kind], false[kind]) for kind in kinds
    }
    others = {str(kind): n for kind, n in sorted(false.items(), key=str) if kind not in by_kind}
    pooled = _counted(faulty, sum(false.values()))
    return Score(len(faulty), len(healthy), pooled, by_kind, others)


def _counted(outcomes: Sequence[Outcome], false: int) -> KindScore:
    right = [(o, o.right) for o in outcomes if o.right is not None]
    return KindScore(
        runs=len(outcomes),
        right=len(right),
        false=false,
        detected=sum(o.detected for o in outcomes),
        delays=tuple(max((alarm.step or 0) - o.label.first_step, 0) for o, alarm in right if alarm),
    )


def shares(
    outcomes: Iterable[Outcome], by: Callable[[Label], str | None]
) -> dict[str, tuple[int, int, int]]:
    """Count faulty runs by something of their label: (runs, cause named, detected)."""
    counts: dict[str, tuple[int, int, int]] = {}
    for o in outcomes:
        if is_faulty(o):
            runs, named, detected = counts.get(key := str(by(o.label)), (0, 0, 0))
            counts[key] = (runs + 1, named + (o.right is not None), detected + o.detected)
    return dict(sorted(counts.items()))


def false_alarms(outcomes: Iterable[Outcome]) -> tuple[int, int]:
    """Count healthy runs with any alarm, and all healthy runs."""
    alarmed = [bool(o.alarms) for o in outcomes if not is_faulty(o)]
    return sum(alarmed), len(alarmed)


def clopper_pearson(held: int, n: int) -> Interval:
    """Give the exact 95 % interval (Clopper and Pearson, 1934) of `held` out of `n`."""
    found = stats.binomtest(held, n).proportion_ci(0.95, method="exact")
    return float(found.low), float(found.high)


def causes(outcomes: Iterable[Outcome], kinds: Collection[str] = SPIKES) -> Causes:
    """Count how often the cause is right where the evidence decides, of detected incidents.

    The first alarm in the window speaks for the incident. It is decisive when its confidence is
    certain or likely and its kind names a cause. What is left open is better undecided than wrong.
    """
    decided = decided_right = left_open = undecided = 0
    for o in outcomes:
        first = next((a for a in o.alarms if o.in_window(a)), None)
        if first is None or o.label.kind not in kinds:
            continue
        if first.confidence in DECISIVE and first.kind != "spike_isolated":
            decided += 1
            decided_right += first.kind == o.label.kind
        else:
            left_open += 1
            undecided += first.confidence == "undecided" or first.kind in (
                "spike_isolated",
                o.label.kind,
            )
    return Causes(decided, decided_right, left_open, undecided)


def exact_ids(outcomes: Iterable[Outcome], kind: str = "bad_example") -> tuple[int, int]:
    """Count runs whose injected examples are all named and no other, of those with a label."""
    labelled = [o for o in outcomes if o.label.kind == kind and o.label.ids]
    exact = [o.right is not None and set(o.right.ids) == set(o.label.ids) for o in labelled]
    return sum(exact), len(exact)


def confusion(outcomes: Iterable[Outcome]) -> dict[str, Counter[str]]:
    """Count, per labelled kind, the kind of the first alarm in the window, else of the first."""
    table: dict[str, Counter[str]] = {}
    for o in outcomes:
        first = next((a for a in o.alarms if o.in_window(a)), None)
        said = first or next(iter(o.alarms), None)
        word = "-" if said is None else str(said.kind)
        outside = "" if said is None or first or not is_faulty(o) else " (outside)"
        table.setdefault(o.label.kind or "healthy", Counter())[word + outside] += 1
    return dict(sorted(table.items()))
