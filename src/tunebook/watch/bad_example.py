"""Examples whose loss no other example comes near, in batches that are normal otherwise."""

from __future__ import annotations

import math

import numpy as np

from tunebook.records import Verdict
from tunebook.units import format_number
from tunebook.watch.run_log import RunLog
from tunebook.watch.surprise import tail_chance

_Z = 9.0
_Z_BEYOND_GUESSING = 8.0
_WORSE = 1.1
_GAP = 1.45
_MOST_ROWS = 3
_NORMAL_Z = 3.0
_EXPECTED_FALSE = 0.01
_MOST = 20
_NATS = 1.0


def find_bad_example(log: RunLog) -> Verdict | None:
    """Find up to three examples that stand alone, with most of their batch as usual.

    Their loss must be 9 robust SDs above what examples of their source and like length have at the
    same weights (8 where it is a tenth worse than guessing among the vocabulary) and 1 nat above
    those of their batch, 1.45 times as far as that of any other example, and so far that by the
    tail of the others less than 0.01 are expected there in a run, or worse than guessing.
    """
    z, examples = log.example_z, log.examples
    size = log.facts.vocabulary_size
    guessing = examples.loss > (_WORSE * math.log(size) if size else math.inf)
    far = (z > _Z) | (guessing & (z > _Z_BEYOND_GUESSING))
    if not far.any():
        return None
    places = np.flatnonzero(far)
    ids_far = list(dict.fromkeys(examples.code[places[np.argsort(-z[places])]].tolist()))[
        :_MOST_ROWS
    ]
    same = np.isin(examples.code, ids_far)
    limit = _GAP * float(z[~same].max(initial=0.0))
    found = [
        int(at)
        for at in np.flatnonzero(far & same & (z > limit))
        if _others_are_normal(log, int(at))
        and (guessing[at] or tail_chance(z, z[at], same) < _EXPECTED_FALSE)
    ]
    found = [at for at in found if examples.loss[at] - _usual(log, at) > _NATS]
    if not found:
        return None
    ids = list(dict.fromkeys(examples.id_at(at) for at in found))
    worst = max(found, key=lambda at: float(z[at]))
    steps = [int(log.step[examples.place[at]]) for at in found]
    share = _share_of_loss(log, worst)
    return Verdict(
        kind="bad_example",
        step=steps[0],
        last_step=steps[-1],
        cause=f"{'example' if len(ids) == 1 else 'examples'} {', '.join(ids)}: a loss of "
        f"{format_number(float(examples.loss[worst]))} nats per token where others in its place "
        f"have {format_number(_usual(log, worst))}",
        confidence="likely",
        evidence={
            "examples": ids,
            "loss": float(examples.loss[worst]),
            "usual": _usual(log, worst),
            "z": float(z[worst]),
            "share_of_the_step": share,
            "steps": steps[:_MOST],
            "other_times": _other_times(log, found),
        },
        next_action="look at these rows (counted from 1): mend or leave out broken ones; right "
        "ones are of a kind that the model hardly knows, such as another script",
    )


def _usual(log: RunLog, at: int) -> float:
    place = log.examples.place == log.examples.place[at]
    place[at] = False
    others = log.examples.loss[place]
    level = log.canary_before[log.examples.place[at]]
    return float(np.median(others)) if len(others) else float(level)


def _others_are_normal(log: RunLog, at: int) -> bool:
    step = int(log.examples.place[at])
    rows = np.arange(log.examples.first[step], log.examples.first[step + 1])
    others = log.example_z[rows[rows != at]]
    return not len(others) or float(np.quantile(others, 0.75)) < _NORMAL_Z


def _share_of_loss(log: RunLog, at: int) -> float:
    step = int(log.examples.place[at])
    rows = slice(log.examples.first[step], log.examples.first[step + 1])
    sums = log.examples.loss[rows] * log.examples.target_tokens[rows]
    total = float(sums.sum())
    return float(sums[at - log.examples.first[step]] / total) if total > 0 else 0.0


def _other_times(log: RunLog, found: list[int]) -> dict[str, list[float]]:
    """Give the losses of these examples where they did not stand out, in other epochs."""
    codes = {int(log.examples.code[at]) for at in found}
    others: dict[str, list[float]] = {}
    for at in np.flatnonzero(np.isin(log.examples.code, list(codes))):
        if int(at) not in found:
            others.setdefault(log.examples.id_at(int(at)), []).append(float(log.examples.loss[at]))
    return others
