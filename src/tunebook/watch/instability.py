"""Why the weights were hurt, as far as the learning rate tells."""

from __future__ import annotations

import math

import numpy as np

from tunebook.records import Verdict
from tunebook.units import format_number
from tunebook.watch.hurt import Hurt, find_hurt
from tunebook.watch.run_log import RunLog, fill_forward

_FEWEST_WARMUP = 3
_BELOW_HEALTHY = 0.7
_ENOUGH_MOVED = 0.002
_ENOUGH_MOVED_OF_ADAPTER = 0.03
_EARLY = 0.25


def find_instability(log: RunLog) -> Verdict | None:
    """Name what hurt the weights: the peak of the warm-up, a rate too high, or nothing known.

    Near the end of a warm-up (from its last four fifths to a tenth of the run behind it) it is
    `peak_lr`; early in a run that begins at a high rate, or where it never recovers at one,
    `lr_too_high`, unless a rate much higher went well before. What recovered in mid-run is
    `spike_isolated`: replaying it decides.
    """
    hurt = find_hurt(log)
    if hurt is None:
        return None
    rates = fill_forward(log.learning_rate)
    if not np.isfinite(rates[: hurt.onset + 1]).any():
        return _undecided(log, hurt) if hurt.recovered else None
    if near_peak(log, hurt.onset, hurt.crossing):
        return _too_high(log, hurt, "peak_lr")
    if hurt.onset and rates[hurt.onset] < _BELOW_HEALTHY * np.nanmax(rates[: hurt.onset]):
        # What went well at a higher rate does not fail of this one; divergence is said by itself.
        return _undecided(log, hurt) if hurt.recovered else None
    early = hurt.onset <= max(10, _EARLY * len(log))
    if early or not hurt.recovered:
        return _too_high(log, hurt, "lr_too_high")
    return _undecided(log, hurt)


def near_peak(log: RunLog, onset: int, crossing: int) -> bool:
    """Tell whether an incident belongs to the end of a warm-up."""
    end = log.warmup_end
    if end < _FEWEST_WARMUP or crossing < 0.2 * end:
        return False
    # In steps: logs of others may have a row for every tenth of them.
    behind = int(log.step[min(onset, len(log) - 1)] - log.step[end])
    return behind <= max(8, 0.1 * (log.facts.total_steps or int(log.step[-1])))


def lower_rate(log: RunLog, onset: int) -> float:
    """Propose half the rate that hurt, or less.

    That is the highest that did not hurt, and the one whose updates move the weights by 0.2 % of
    their size (3 % of an adapter, half of which begins at 0), twice of what is usual.
    """
    rates = fill_forward(log.learning_rate)
    wanted = float(rates[onset]) / 2
    if onset and np.isfinite(rates[:onset]).any():
        wanted = min(wanted, float(np.nanmax(rates[:onset])))
    ratio = float(log.update_ratio[onset])
    moved = _ENOUGH_MOVED if log.facts.method in (None, "full") else _ENOUGH_MOVED_OF_ADAPTER
    return min(wanted, float(rates[onset]) * moved / ratio) if ratio > 0 else wanted


def _too_high(log: RunLog, hurt: Hurt, kind: str) -> Verdict:
    rates = fill_forward(log.learning_rate)
    onset = min(hurt.onset, len(log) - 1)
    at_onset = float(rates[onset])
    healthy = float(np.nanmax(rates[:onset])) if onset else None
    wanted = lower_rate(log, onset)
    first, last = int(log.step[onset]), int(log.step[hurt.last])
    ends = "comes back" if hurt.recovered else "does not come back"
    where = ""
    changes = [f"train.learning_rate={wanted:.2g}"]
    if kind == "peak_lr":
        end, ends_at = log.warmup_end, log.facts.warmup_steps
        peak = float(np.nanmax(rates[: end + 1]))
        where = f", {peak:.3g} being the peak at step {int(log.step[end])}"
        if ends_at is not None and ends_at > log.step[-1]:  # seen while it is warming up
            where = f", on the way to a peak at step {ends_at}"
        total = log.facts.total_steps or len(log)
        changes.append(f"train.warmup_fraction={min(max(1.5 * end / total, 0.1), 0.5):.2g}")
    return Verdict(
        kind=kind,
        step=first,
        last_step=last,
        cause=f"from step {first} on, at a learning rate of {at_onset:.3g}{where}, the loss rises "
        f"by {format_number(hurt.height)} nats above the {format_number(hurt.level)} it had, and "
        f"{ends}",
        confidence="likely",
        evidence={
            "learning_rate_at_onset": at_onset,
            "highest_healthy": healthy,
            "level_before": hurt.level,
            "rise": hurt.height,
            "recovered": hurt.recovered,
            "canary": log.has_canary,
        },
        next_action=f"train with a peak learning rate of {wanted:.2g}"
        + (" and a longer warm-up" if kind == "peak_lr" else ""),
        changes=tuple(changes),
    )


def _undecided(log: RunLog, hurt: Hurt) -> Verdict:
    onset = min(hurt.onset, len(log) - 1)
    first, last = int(log.step[onset]), int(log.step[hurt.last])
    rate = float(log.learning_rate[onset])
    known = math.isfinite(rate)
    left = ["one update", "the optimizer's state"] if known else ["the learning rate", "the data"]
    return Verdict(
        kind="spike_isolated",
        step=first,
        last_step=last,
        cause=f"the loss rises by {format_number(hurt.height)} nats from step {first} on and comes "
        f"back by step {last}; what the log holds does not decide between {' and '.join(left)}",
        confidence="undecided",
        evidence={
            "rise": hurt.height,
            "level_before": hurt.level,
            "learning_rate": rate if known else None,
            "left": left,
            "excluded": ["the learning rate's schedule", "its sources"] if known else [],
        },
        next_action=f"`tunebook replay RUN --step {first}` repeats it with one thing changed",
    )
