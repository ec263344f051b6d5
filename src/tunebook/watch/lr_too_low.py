"""Updates that are too small for the loss to fall."""

from __future__ import annotations

import numpy as np

from tunebook.records import Verdict
from tunebook.units import format_number, format_percent
from tunebook.watch.run_log import RunLog

_FEWEST_STEPS = 20
_ENOUGH_STEPS = 200
_NO_RATIO = 1e-6
_GAIN = 0.05
_SMALL = 0.1
_MOVED, _USUAL_RATIO = 0.01, 1e-3
_ADAPTER = 15
"""Half of an adapter begins at 0, so it moves so many times as far relative to its size."""
_LEAST_CHANGED = 0.75
_NO_RATE = 1e-7
"""Of AdamW, where the log has no update ratios: no weights learn at less."""


def find_lr_too_low(log: RunLog) -> Verdict | None:
    """Find updates below 1e-6 of the weights, or a gain below 5 % with hardly any movement.

    The movement is the sum of |update| / |weights| over all steps, an upper bound of how far the
    weights can have come: 0.01, and 0.15 of adapters, at a tenth of the usual update or less (a
    short run at a usual rate is no fault). Gain and movement are looked at after 200
    steps or at the end of the run, and not in its warm-up. An update of about 1e-3 of the weights a
    step is usual; the learning rate that gives it is proposed.
    """
    n, total = len(log), log.facts.total_steps
    known = np.isfinite(log.learning_rate) & (log.learning_rate > 0)
    if n < _FEWEST_STEPS or not known.any():
        return None
    gain = _gain(log)
    last, warmup = int(log.step[-1]), log.facts.warmup_steps or 0
    ended = last >= max(_ENOUGH_STEPS, 2 * warmup) or (total is not None and last >= total)
    scale = 1 if log.facts.method in (None, "full") else _ADAPTER
    ratios = log.update_ratio[np.isfinite(log.update_ratio) & known]
    rate = float(log.learning_rate[known].max())
    evidence: dict[str, object] = {"gain": gain, "learning_rate": rate, "steps": n}
    # Weights that cannot move are another matter: a learning rate does not help them.
    changed = log.changed_fraction[np.isfinite(log.changed_fraction) & known]
    if len(changed) and float(np.quantile(changed, 0.9)) < _LEAST_CHANGED:
        return None
    if len(ratios) and float(ratios.max()) > 0:
        ratio, moved = float(np.median(ratios)), float(ratios.sum())
        small = ratio < _SMALL * _USUAL_RATIO * scale and moved < _MOVED * scale
        if ratio >= _NO_RATIO and not (small and ended and gain < _GAIN):
            return None
        wanted = float(f"{rate * min(_USUAL_RATIO * scale / max(ratio, 1e-12), 1e6):.1g}")
        evidence |= {"update_ratio": ratio, "moved": moved, "suggested_learning_rate": wanted}
        usual = _USUAL_RATIO * scale
        why = f"a step moves the weights by {ratio:.1e} of their size, about {usual:.1e} is usual"
    elif not log.has("update_ratio") and ended and gain < _GAIN and rate < _NO_RATE:
        wanted = None
        evidence["coarse"] = "no update ratios: judged by the learning rate alone"
        why = f"the learning rate is at most {rate:.1e}"
    else:
        return None
    return Verdict(
        kind="lr_too_low",
        step=int(log.step[0]),
        last_step=int(log.step[-1]),
        cause=(f"the loss fell by {format_percent(max(gain, 0.0))} in {n} steps: {why}"),
        confidence="likely",
        evidence=evidence,
        next_action="raise train.learning_rate"
        + (f" from {format_number(rate)} to {format_number(wanted)}" if wanted else ""),
        changes=(f"train.learning_rate={wanted:g}",) if wanted else (),
    )


def _gain(log: RunLog) -> float:
    """Give the share by which the loss fell: held out where it was, else of the training steps."""
    held_out = [v.loss for v in log.validations if np.isfinite(v.loss)]
    if len(held_out) > 1 and log.validations[0].step == 0:
        return 1 - min(held_out[1:]) / held_out[0]
    losses = log.loss[np.isfinite(log.loss)]
    width = max(1, len(losses) // 10)
    first = float(np.median(losses[:width])) if len(losses) else 0.0
    return 1 - float(np.median(losses[-width:])) / first if first > 0 else 0.0
