"""What an author expects of a run, read from text and scored by what was measured."""

from __future__ import annotations

import difflib
import functools
import math
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tunebook.errors import RunFileError
from tunebook.kinds import kinds_of
from tunebook.records import Outcome, RunSummary
from tunebook.units import format_number

METRICS = (
    "val_loss",
    "train_loss",
    "perplexity",
    "best_val_loss",
    "base_val_loss",
    "peak_memory_bytes",
    "seconds",
    "judge",
)
_HELD_OUT = ("val_loss", "best_val_loss", "base_val_loss", "perplexity")
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_COMPARISON = re.compile(r"^\s*([^\s<>=]+)\s*(<=|>=|<|>)\s*([^\s<>=]+)\s*$")
_ABSENCE = re.compile(r"^\s*no\s+([a-z][a-z0-9_]*)\s*$")
_GRAMMAR = (
    "write `METRIC < NUMBER`, `METRIC < RUN.METRIC`, `METRIC < METRIC` or `no VERDICT` with one of "
    f"< <= > >= and METRIC one of {', '.join(METRICS)}"
)


@dataclass(frozen=True, slots=True)
class Comparison:
    """`metric op right`, where right is a number or a metric of this or another run."""

    text: str
    metric: str
    op: str
    number: float | None
    other_run: str | None
    other_metric: str | None


@dataclass(frozen=True, slots=True)
class Absence:
    """`no KIND`: the run ends without that verdict, or without any of a family of them."""

    text: str
    kind: str
    kinds: tuple[str, ...]


Parsed = Comparison | Absence


def check_predictions(texts: Sequence[str], where: Callable[[str], str]) -> None:
    """Raise RunFileError for the first prediction of a run file that cannot be read.

    `where` names the place of a dotted key.
    """
    for number, text in enumerate(texts):
        try:
            parse_prediction(text)
        except RunFileError as error:
            raise RunFileError(f"{where(f'notebook.predict.{number}')}: {error}") from None


@functools.lru_cache(1024)
def parse_prediction(text: str) -> Parsed:
    """Read one prediction; RunFileError lists the grammar."""
    absence = _ABSENCE.match(text)
    if absence:
        try:
            return Absence(text, absence.group(1), kinds_of(absence.group(1)))
        except ValueError as error:
            raise RunFileError(f"the prediction `{text}`: {error}") from None
    found = _COMPARISON.match(text)
    if not found:
        raise RunFileError(f"cannot read the prediction `{text}`: {_GRAMMAR}")
    metric, op, right = found.groups()
    if metric not in METRICS:
        hint = _near_metric(metric) or f": {_GRAMMAR}"
        raise RunFileError(f"the prediction `{text}` names no metric `{metric}`{hint}")
    number = _number(right)
    if number is not None:
        return Comparison(text, metric, op, number, None, None)
    if right in METRICS:
        return Comparison(text, metric, op, None, None, right)
    other_run, _, other_metric = right.rpartition(".")
    if other_run and other_metric in METRICS:
        return Comparison(text, metric, op, None, other_run, other_metric)
    hint = _near_metric(right) or f": {_GRAMMAR}"
    raise RunFileError(f"the prediction `{text}` compares with an unknown `{right}`{hint}")


def _near_metric(said: str) -> str:
    """Ask whether the nearest metric was meant, of the run that was named; nothing without one."""
    of_run, dot, metric = said.rpartition(".")
    near = difflib.get_close_matches(metric, METRICS, n=1)
    near = [] if dot and not of_run else near
    return f"; did you mean `{of_run}{dot}{near[0]}`?" if near else ""


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def score_prediction(
    parsed: Parsed, own: RunSummary, others: Callable[[str], RunSummary | None]
) -> Outcome:
    """Score a prediction by what was measured; `held` is None, with the reason, if it cannot be."""
    if isinstance(parsed, Absence):
        return _score_absence(parsed, own)
    assert parsed.metric in METRICS
    left = _Side(own, parsed.metric, parsed.metric)
    if parsed.number is not None:
        return _compare(parsed, left, parsed.number, None)
    assert parsed.other_metric is not None
    if parsed.other_run is None:
        return _compare(parsed, left, None, _Side(own, parsed.other_metric, parsed.other_metric))
    other = others(parsed.other_run)
    if other is None:
        return Outcome(parsed.text, None, left.shown, f"there is no run {parsed.other_run}")
    label = f"{parsed.other_run}.{parsed.other_metric}"
    if other.state == "running":
        return Outcome(parsed.text, None, left.shown, f"{parsed.other_run} is still running")
    right = _Side(other, parsed.other_metric, label)
    if right.value is not None and left.value is not None:
        reason = not_comparable(parsed.metric, parsed.other_metric, own, other)
        if reason:
            return Outcome(parsed.text, None, f"{left.shown}, {right.shown}", reason)
    return _compare(parsed, left, None, right)


class _Side:
    """A measured value with the name it is shown under."""

    def __init__(self, run: RunSummary, metric: str, label: str):
        value = getattr(run, metric)
        self.value: float | None = None if value is None else float(value)
        self.label = label
        self.shown = "" if value is None else f"{label} {format_number(float(value))}"
        self.missing = f"{label} was not measured"


def _compare(parsed: Comparison, left: _Side, number: float | None, right: _Side | None) -> Outcome:
    shown = ", ".join(side.shown for side in (left, right) if side is not None and side.shown)
    for side in (left, right):
        if side is None:
            continue
        if side.value is None:
            return Outcome(parsed.text, None, shown, side.missing)
        if not math.isfinite(side.value):
            return Outcome(parsed.text, None, shown, f"{side.label} is not a finite number")
    against = number if right is None else right.value
    assert left.value is not None
    assert against is not None
    return Outcome(parsed.text, _COMPARE[parsed.op](left.value, against), shown, "")


def not_comparable(
    metric: str, other_metric: str, own: RunSummary, other: RunSummary
) -> str | None:
    """Say why a metric of one run does not compare with one of another; None where it does."""
    if metric == other_metric == "judge":
        if own.judge_settings == other.judge_settings:
            return None
        return f"{other.name} was judged by another judge, prompt or on other questions"
    if metric not in _HELD_OUT or other_metric not in _HELD_OUT:
        return None
    if own.examples_hash is None or other.examples_hash is None:
        return f"it is not known whether {other.name} was validated on the same examples"
    if own.examples_hash != other.examples_hash:
        return f"{other.name} was validated on different examples, so the two do not compare"
    return None


def _score_absence(parsed: Absence, own: RunSummary) -> Outcome:
    if not own.step:
        return Outcome(parsed.text, None, "", "no step has been trained")
    found = [kind for kind in parsed.kinds if kind in (*own.verdicts, *own.effects)]
    amber = [kind for kind in found if kind in own.amber]
    if len(found) > len(amber):
        shown = ", ".join(kind for kind in found if kind not in amber)
        return Outcome(parsed.text, False, f"{shown} was found", "")
    if amber:
        return Outcome(parsed.text, None, "", f"{', '.join(amber)} is not confirmed")
    for kind in parsed.kinds:
        if kind not in own.looked_for:
            why = own.not_looked_for.get(kind)
            could_not = f"could not be judged: {why}" if why else "was not looked for"
            return Outcome(parsed.text, None, "", f"{kind} {could_not}")
    return Outcome(parsed.text, True, f"{parsed.kind} looked for and not found", "")


def count_outcomes(outcomes: Sequence[Outcome]) -> str | None:
    """Put outcomes in a few words, such as `2 of 3 held` or `1 of 2 held, 1 unknown`."""
    if not outcomes:
        return None
    held = sum(outcome.held is True for outcome in outcomes)
    unknown = sum(outcome.held is None for outcome in outcomes)
    words = f"{held} of {len(outcomes)} held"
    return f"{words}, {unknown} unknown" if unknown else words
