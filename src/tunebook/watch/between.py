"""Verdicts between two runs: what changed, what of it can be the cause, and what is only noise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tunebook.records import Comparison, Verdict
from tunebook.units import format_number, format_percent
from tunebook.watch.run_log import RunLog

NO_CAUSE = (
    "name", "extends", "notebook.", "accept", "seed", "stop_on", "checkpoint.", "evaluate.",
)  # fmt: skip
"""Settings that decide nothing about the weights, and the seed, whose effect is noise."""
SHRINKAGE = 0.05
"""Weights that decay shrinks by less than this share of their size, in all, are not changed."""

Change = tuple[object, object]
_LIKELY = ("train.learning_rate", "method", "train.epochs", "train.max_steps", "lora.rank", "data")
"""Settings to try alone first, where several changed."""


@dataclass(frozen=True, slots=True)
class Side:
    """A run as settings and log; `settings` are by dotted key, None where a cell says nothing."""

    name: str
    settings: Mapping[str, object]
    log: RunLog = field(default_factory=lambda: RunLog(()))


def settings_changed(then: Side, now: Side) -> dict[str, Change]:
    """List what changed from one run to the other, {key: (then, now)}; what goes together once.

    An adapter's settings count once beside its method, and its rank and alpha once where the scale
    alpha / rank stayed.
    """
    keys = sorted({*then.settings, *now.settings})
    changed = {
        key: (then.settings.get(key), now.settings.get(key))
        for key in keys
        if not key.startswith(NO_CAUSE) and then.settings.get(key) != now.settings.get(key)
    }
    if "method" in changed:
        changed = {k: v for k, v in changed.items() if not k.startswith(("lora.", "relora."))}
    if {"lora.rank", "lora.alpha"} <= changed.keys() and _scale(then) == _scale(now):
        del changed["lora.alpha"]
        changed["lora.rank (alpha / rank kept)"] = changed.pop("lora.rank")
    if data := [key for key in changed if key.startswith("data.")]:
        first = {key: changed.pop(key) for key in data}
        changed["data"] = next(iter(first.values()))
    if {"train.warmup_steps", "train.warmup_fraction"} <= changed.keys():
        changed["train.warmup_fraction"] = (
            changed["train.warmup_fraction"][0] or changed["train.warmup_steps"][0],
            changed["train.warmup_fraction"][1] or changed.pop("train.warmup_steps")[1],
        )
    return changed


def _scale(side: Side) -> float | None:
    rank, alpha = side.settings.get("lora.rank"), side.settings.get("lora.alpha")
    if isinstance(rank, (int, float)) and isinstance(alpha, (int, float)):
        return alpha / rank
    return None


def change_words(key: str, change: Change) -> str:
    """Say a change as `key then -> now`."""
    then, now = ("not given" if value is None else str(value) for value in change)
    return f"{key} {then} -> {now}"


def _suspicion(key: str) -> int:
    """Rank settings by how often they are the cause; the rest in the order given."""
    return _LIKELY.index(key) if key in _LIKELY else len(_LIKELY)


def find_confounded(
    then: Side, now: Side, changed: Mapping[str, Change], suspect: str | None = None
) -> Verdict | None:
    """Find that more than one setting changed, so that none of them is shown to be the cause."""
    if len(changed) < 2 or (suspect is not None and suspect not in changed):
        return None
    words = [change_words(key, change) for key, change in changed.items()]
    alone = suspect or min(changed, key=_suspicion)
    blamed = f"{suspect} cannot be" if suspect else "none of them alone can be"
    others = {key: change[0] for key, change in changed.items() if key != alone}
    return Verdict(
        kind="confounded",
        step=None,
        last_step=None,
        cause=f"{len(words)} settings changed from {then.name} to {now.name}, and {blamed} called "
        f"the cause: {'; '.join(words)}",
        confidence="certain",
        evidence={key: change_words("", change).strip() for key, change in changed.items()},
        next_action=f"train a run in which {alone} alone changed",
        changes=tuple(
            f"{key.partition(' ')[0]}={value}" for key, value in others.items() if value is not None
        ),
    )


def find_cannot_explain(
    then: Side, now: Side, changed: Mapping[str, Change], suspect: str | None = None
) -> dict[str, Verdict]:
    """Find changed settings, or a suspected one, that arithmetic excludes as a cause, by key.

    Decoupled weight decay shrinks weights by 1 - prod(1 - lr_t decay) in all; clipping that was
    never active, a warm-up of as many steps, a smaller micro-batch and a last learning rate of a
    constant schedule change no update.
    """
    found = {
        key: _cannot_explain(key, *why, words=change_words(key, change))
        for key, change in changed.items()
        if (suspect is None or key == suspect) and (why := _excluded(key, then, now))
    }
    if suspect is not None and suspect not in changed:
        value = now.settings.get(suspect)
        if value is not None and value == then.settings.get(suspect):
            same = f"it is {value} in both runs"
            found[suspect] = _cannot_explain(suspect, same, {"value": value}, words=suspect)
    return found


def _cannot_explain(key: str, why: str, evidence: Mapping[str, object], words: str) -> Verdict:
    return Verdict(
        kind="cannot_explain",
        step=None,
        last_step=None,
        cause=f"{words} cannot explain a difference: {why}",
        confidence="certain",
        evidence=evidence,
        next_action=f"look for the cause elsewhere than in {key}",
    )


def _excluded(key: str, then: Side, now: Side) -> tuple[str, dict[str, object]] | None:
    """Say why a setting can make no difference, with the numbers; None where it may."""
    sides = (then, now)
    if key == "train.micro_batch_size":
        return "the gradient of a step is the same sum over the same rows", {}
    if key == "train.weight_decay":
        shrunk = [_shrinkage(side) for side in sides]
        known = [share for share in shrunk if share is not None]
        if len(known) == 2 and max(known) < SHRINKAGE:
            shares = " and ".join(format_percent(share) for share in known)
            why = f"decay shrinks the weights by at most {shares} of their size over the whole run"
            return f"{why}, 1 - prod(1 - learning rate x decay)", {
                side.name: share for side, share in zip(sides, known, strict=True)
            }
    if key == "train.max_grad_norm" and not any(_may_clip(side, sides) for side in sides):
        norms = {side.name: float(np.nanmax(side.log.grad_norm)) for side in sides}
        largest = format_number(max(norms.values()))
        return f"clipping was never active: the largest gradient norm was {largest}", dict(norms)
    if key.startswith("train.warmup_"):
        steps = {side.log.facts.warmup_steps for side in sides}
        if len(steps) == 1 and None not in steps:
            (count,) = steps
            return f"both warm up for {count} steps", {"warmup_steps": count}
    constant = all(side.settings.get("train.schedule") == "constant" for side in sides)
    if key == "train.min_lr" and constant:
        return "the schedule is constant, so that it is never reached", {}
    return None


def _shrinkage(side: Side) -> float | None:
    """Give the share that decay takes off the weights in all, at most; None if it is not known."""
    decay = side.settings.get("train.weight_decay")
    if not isinstance(decay, (int, float)):
        return None
    log = side.log
    peak = side.settings.get("train.learning_rate")
    steps = log.facts.total_steps or (int(log.step[-1]) if len(log) else None)
    rates = log.learning_rate
    if len(log) and len(log) == steps and np.isfinite(rates).all():
        return total_shrinkage(rates, decay)
    if steps is None or not isinstance(peak, (int, float)):
        return None
    return total_shrinkage([peak] * steps, decay)


def total_shrinkage(learning_rates: Sequence[float] | np.ndarray, weight_decay: float) -> float:
    """Give 1 - prod(1 - lr_t decay): what decoupled decay takes off a weight that never learns."""
    kept = np.log1p(-np.asarray(learning_rates) * weight_decay).sum()
    return abs(float(np.expm1(kept)))  # of no decay 0, and not -0


def _may_clip(side: Side, sides: Sequence[Side]) -> bool:
    """Tell whether any of the thresholds could have touched a gradient of this run."""
    bounds = [one.settings.get("train.max_grad_norm") for one in sides]
    limits = [b for b in bounds if isinstance(b, (int, float)) and b > 0]
    norms = side.log.grad_norm
    if not len(norms) or not np.isfinite(norms).all() or None in bounds or not limits:
        return True
    return bool(norms.max() > min(limits))


@dataclass(frozen=True, slots=True)
class Compared:
    """A result of both runs: their scores, what can be said of them, and what that assumes.

    `seed_sd` is over runs that differ in their seed alone, with `seed_degrees` of freedom; None
    where there are none.
    """

    first: float
    second: float
    comparison: Comparison
    assumed: str = ""
    seed_sd: float | None = None
    seed_degrees: int = 0


def find_noise_only(then: Side, now: Side, compared: Mapping[str, Compared]) -> Verdict | None:
    """Find that every result differs by no more than noise: its interval includes 0, and seeds.

    Runs of the same recipe with other seeds give the SD of seeds; two such runs differ by less than
    t (0.975) sqrt(2) SD. Without them the interval over items decides alone, which is said.
    """
    if not compared:
        return None
    clauses, evidence = [], dict[str, object]()
    for metric, one in compared.items():
        difference, interval = one.comparison.difference, one.comparison.interval
        if one.comparison.verdict == "different" or interval is None:
            return None
        limit = _seed_limit(one)
        if limit is not None and abs(difference) > limit:
            return None
        low, high = (format_number(end) for end in interval)
        needed = one.comparison.n_needed
        seeds = "no runs of other seeds are there, so that how far seeds alone go is unknown"
        if limit is not None:
            seeds = f"seeds alone go {format_number(limit)} apart (SD {format_number(one.seed_sd)})"
        clauses.append(
            f"{metric} {format_number(one.first)} and {format_number(one.second)} differ by "
            f"{format_number(difference)} (95 % interval {low} to {high})"
            + (f", and about {needed:,} items would tell" if needed else "")
            + f"; {seeds}"
        )
        evidence[metric] = {
            "difference": difference,
            "interval": interval,
            "items_needed": needed,
            "assumed": one.assumed or None,
            "seed_sd": one.seed_sd,
        }
    return Verdict(
        kind="noise_only",
        step=None,
        last_step=None,
        cause=f"{now.name} and {then.name} are not shown to differ: {'; '.join(clauses)}",
        confidence="likely",
        evidence=evidence,
        next_action="take them as equal, within the margins stated"
        if all(one.comparison.verdict == "equivalent" for one in compared.values())
        else "score more items, or train both with further seeds, before calling one better",
    )


def _seed_limit(one: Compared) -> float | None:
    if one.seed_sd is None:
        return None
    from scipy import stats

    return float(stats.t.isf(0.025, one.seed_degrees)) * math.sqrt(2) * one.seed_sd
