"""Which single changes could take a spike away: what was new at its step, and what calms any."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tunebook.records import ExampleLoss
from tunebook.watch.run_log import RunLog

LEAD = 16
"""Steps before the spike from which on learning rate and clipping are changed."""
_RECENT = 48
_NEW_RATE = 1.05
_JUMP = 2.0
_OUTSTANDING_Z = 6.0
_ORDINARY_Z = 3.0
_FLOOR = 0.05  # nats: below it, the spread of examples' losses is no scale


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that is changed from a step on; what is not named stays as it was.

    `new`: it takes back what was new at the step. `rate_at_most` and `rate_share` bound and scale
    the learning rate; `rows` replaces the step's rows, or only the example of that id.
    """

    name: str
    words: str
    first_step: int
    new: bool
    rows: bool = False
    example: str | None = None
    rate_at_most: float = float("inf")
    rate_share: float = 1.0
    max_grad_norm: float | None = None
    another_seed: bool = False
    kind: str = "spike_isolated"
    setting: str | None = None


@dataclass(frozen=True, slots=True)
class Before:
    """What the log does not say: the first step that can be repeated, and what a fork changed.

    `fork` is the step it went on from, `clip` the `max_grad_norm` until then.
    """

    first_step: int
    dropout: bool
    fork: int | None = None
    clip: float | None = None


def changes_to_try(log: RunLog, step: int, before: Before) -> tuple[list[Change], dict[str, str]]:
    """List the changes worth trying for a step, and why others are not.

    `log` has the steps of the run from which a fork went on in front.
    """
    at = int(np.searchsorted(log.step, step))
    first = max(before.first_step, step - LEAD)
    left_out: dict[str, str] = {}
    found = [Change("other rows", f"the rows of step {step} replaced", step, True, rows=True)]
    example = outstanding_example(log, at)
    if example is None:
        left_out["other example"] = "no single example of the step stands out"
    else:
        found.append(
            replace(
                found[0],
                name="other example",
                words=f"only {example.id} replaced",
                example=example.id,
                kind="bad_example",
            )
        )
    lower = _lower_rate(log, at, first)
    if lower is None:
        left_out["lower rate"] = "the learning rate was no higher than before"
    else:
        found.append(lower)
    # What a next run is to be given is its peak; at the end of a schedule the rate may be 0.
    tenth = 0.1 * (log.facts.learning_rate or float(np.nanmax(log.learning_rate)))
    found.append(
        Change(
            "rate / 10",
            f"a tenth of the rate from step {first}",
            first,
            False,
            rate_share=0.1,
            kind=lower.kind if lower else "lr_too_high",
            setting=f"train.learning_rate={tenth:.3g}",
        )
    )
    clip = _clip(log, at, first, before)
    if isinstance(clip, str):
        left_out["clipping"] = clip
    else:
        found.append(clip)
    if before.dropout:
        words = f"other dropout from step {step}"
        found.append(Change("other seed", words, step, True, another_seed=True))
    else:
        left_out["other seed"] = "the model has no dropout, so a seed changes nothing but the rows"
    return found, left_out


def outstanding_example(log: RunLog, at: int) -> ExampleLoss | None:
    """Find the one example of a step whose loss is far beyond those of the steps before it.

    The others must look like those before; z by median and MAD over at most 48 steps.
    """
    examples = log.steps[at].examples
    low = int(log.examples.first[max(at - _RECENT, 0)])
    first, stop = (int(log.examples.first[i]) for i in (at, at + 1))
    earlier = log.examples.loss[low:first]
    earlier = earlier[np.isfinite(earlier)]
    if len(examples) < 2 or len(earlier) < 8:
        return None
    center = np.median(earlier)
    scale = max(1.4826 * float(np.median(np.abs(earlier - center))), _FLOOR)
    z = (np.nan_to_num(log.examples.loss[first:stop], nan=np.inf) - center) / scale
    top = int(np.argmax(z))
    rest = float(np.median(np.delete(z, top)))
    return examples[top] if z[top] > _OUTSTANDING_Z and rest < _ORDINARY_Z else None


def _lower_rate(log: RunLog, at: int, first: int) -> Change | None:
    """Take a rate back that was never as high before: to before its jump, or to a half."""
    low = max(at - LEAD, 0)
    recent = log.learning_rate[low : at + 1]
    highest = float(np.max(recent))
    reached = float(np.max(log.learning_rate[:low])) if low else float(recent[0])
    if highest <= _NEW_RATE * reached:
        return None
    jumps = 1 + np.flatnonzero(recent[1:] >= _JUMP * recent[:-1])
    jumps = jumps[log.step[low + jumps] > (log.facts.warmup_steps or 0)]
    limit = float(recent[jumps[-1] - 1]) if len(jumps) else highest / 2
    warm = log.step[at] <= (log.facts.warmup_steps or 0) + LEAD
    return Change(
        "lower rate",
        f"the rate at most {limit:.3g} from step {first}",
        first,
        True,
        rate_at_most=limit,
        kind="lr_jump" if len(jumps) else "peak_lr" if warm else "lr_too_high",
        setting=f"train.learning_rate={limit:.3g}",
    )


def _clip(log: RunLog, at: int, first: int, before: Before) -> Change | str:
    """Clip as it was before a fork changed it, or the other way round; or say why not."""
    step, now = int(log.step[at]), log.facts.max_grad_norm or 0.0
    switched = before.fork is not None and step - before.fork <= _RECENT
    norm, kind = 0.0, "spike_isolated"
    if switched and before.clip is not None:
        norm, first, kind = before.clip, max((before.fork or 0) + 1, first), "clip_switch"
    elif now:
        if not log.clipped[max(at - LEAD, 0) : at + 1].any():
            return "no gradient of these steps was clipped"
    else:
        norms = log.grad_norm[max(at - _RECENT, 0) : at]
        norms = norms[np.isfinite(norms)]
        if not len(norms):
            return "nothing was clipped, and no step before tells what gradient norm is usual"
        norm = float(f"{np.median(norms):.2g}")
    return Change(
        "clipping",
        f"clipping at {norm:g} from step {first}" if norm else f"no clipping from step {first}",
        first,
        kind == "clip_switch",
        max_grad_norm=norm,
        kind=kind,
        setting=f"train.max_grad_norm={norm:g}",
    )
