"""How fast a run is, how far that is from what its device can do, and what bounds it, in words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from tunebook.book.events import Events
from tunebook.book.step_totals import PHASES, Pace, StepProfile
from tunebook.pages.markdown import escape, table
from tunebook.units import format_count

if TYPE_CHECKING:
    from tunebook.book.reader import Look

_PHASES = dict(zip(PHASES, ("reading rows", "forward and backward", "canary"), strict=True))
# From here on something beside the step is worth a word, as in the plan's evaluation-dominates.
_MUCH = 0.2
# Products that reach less than this of the ceiling are too small for it.
_SMALL_PRODUCTS = 0.5


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast a run is; None and an empty mapping are not known.

    `share` is of the speed that matrix products alone were measured to reach on the device, and
    `mfu` of its data sheet's peak, of operations counted by the convention of `plan.clock.Cost`.
    `phases` are shares of a step, `groups` those of one step looked at kernel by kernel,
    `largest` those of single operations in the largest group, `product_share` what its matrix
    products reach of their ceiling; `beside` are shares of the run's time that no step took.
    """

    tokens_per_second: float | None = None
    target_tokens_per_second: float | None = None
    share: float | None = None
    mfu: float | None = None
    phases: Mapping[str, float] = field(default_factory=dict)
    groups: Mapping[str, float] = field(default_factory=dict)
    largest: Mapping[str, float] = field(default_factory=dict)
    product_share: float | None = None
    beside: Mapping[str, float] = field(default_factory=dict)
    bound: str = ""
    ways_out: tuple[str, ...] = ()


def measure_speed(
    pace: Pace,
    facts: Mapping[str, Any],
    profiles: Sequence[StepProfile] = (),
    beside: Mapping[str, float] | None = None,
) -> Speed:
    """Work out how fast steps were; `beside` are seconds of the run that no step took."""
    if pace.seconds <= 0:
        return Speed()
    # An imported curve may have times and no tokens.
    tokens, targets = (n / pace.seconds or None for n in (pace.tokens, pace.target_tokens))
    each = facts.get("operations")
    each = each if isinstance(each, Mapping) else {}
    ceiling, peak = (_number(facts.get(k)) for k in ("matrix_product_flops", "peak_flops"))
    flops = None
    if tokens is not None and each.keys() >= {"token", "target_token"}:
        flops = each["token"] * tokens + each["target_token"] * (targets or 0.0)
    profile = profiles[-1] if profiles else None
    whole = pace.seconds + math.fsum((beside or {}).values())
    found = Speed(
        tokens,
        targets,
        flops / ceiling if flops and ceiling else None,
        flops / peak if flops and peak else None,
        _phases(pace),
        {} if profile is None else _shares(profile.groups, profile.seconds),
        {} if profile is None else _shares(profile.largest, profile.seconds),
        _product_share(profile, ceiling),
        _shares(beside or {}, whole),
    )
    bound, ways_out = _bound(found, facts)
    return replace(found, bound=bound, ways_out=ways_out)


def speed_of_run(pace: Pace, events: Events) -> Speed:
    """Work out how fast a run is from what it wrote down."""
    beside = {
        "evaluation": math.fsum(v.seconds or 0.0 for v in events.validations),
        "checkpoints": math.fsum(_number(c.get("seconds")) or 0.0 for c in events.checkpoints),
    }
    return measure_speed(pace, events.facts, events.profiles, beside)


def speed_of_look(look: Look) -> Speed:
    """Work out how fast a run is whose steps were read as columns."""
    return speed_of_run(look.steps.pace(profiled_steps(look.events)), look.events)


def profiled_steps(events: Events) -> set[int]:
    """Give the steps that took longer because they were looked at."""
    return {profile.step for profile in events.profiles}


def _number(value: object) -> float | None:
    known = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if known else None  # type: ignore[arg-type]


def _shares(seconds: Mapping[str, float], whole: float) -> dict[str, float]:
    shares = {name: value / whole for name, value in seconds.items()} if whole > 0 else {}
    return dict(sorted(shares.items(), key=lambda item: (-item[1], item[0])))


def _phases(pace: Pace) -> dict[str, float]:
    known = {words: pace.phases[name] for name, words in _PHASES.items() if name in pace.phases}
    if len(known) == len(PHASES):
        known["update"] = max(pace.seconds - math.fsum(known.values()), 0.0)
    return _shares(known, pace.seconds)


def _product_share(profile: StepProfile | None, ceiling: float | None) -> float | None:
    seconds = 0.0 if profile is None else profile.groups.get("matrix products", 0.0)
    if profile is None or not (profile.product_flops and ceiling and seconds):
        return None
    return profile.product_flops / seconds / ceiling


# --- what bounds it -----------------------------------------------------------------------------


def _bound(speed: Speed, facts: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """Name what takes most of a step, and what would make it less."""
    beside = tuple(_beside(speed))
    if not speed.groups:
        phases = ", ".join(f"{name} {_percent(share)}" for name, share in speed.phases.items())
        if speed.phases.get("reading rows", 0.0) > 0.5:
            return f"bound by reading rows ({phases} of a step)", (_READING, *beside)
        if not phases:  # a log of old
            return "", beside
        why = ": the run is short" if facts.get("profiled") is False else ""
        return f"what bounds it was not measured{why} ({phases} of a step)", beside
    name = next(iter(speed.groups))
    words = f"bound by {name}: {_percent(speed.groups[name])} of a step"
    if name == "matrix products":
        if speed.product_share is not None:
            reached = _percent(speed.product_share)
            words += f", at {reached} of the speed that this device reaches in them"
    else:
        if speed.largest:
            largest = (one.removeprefix("aten::")[:40] for one in list(speed.largest)[:3])
            words += f" ({', '.join(largest)})"
        words += f", matrix products {_percent(speed.groups.get('matrix products', 0.0))}"
    return words, (*_ways_out(name, speed, facts), *beside)


_READING = "a faster disk under the book, where the tokens lie"


def _ways_out(name: str, speed: Speed, facts: Mapping[str, Any]) -> Iterator[str]:
    size, parts = facts.get("micro_batch_size"), facts.get("gradient_accumulation_steps") or 1
    rows = facts.get("effective_batch_size")
    larger = f"larger micro-batches (train.micro_batch_size, now {size})" if parts > 1 else ""
    more = f"more rows per step (train.effective_batch_size, now {rows})"
    on_cpu = facts.get("device") == "cpu"
    if name == "matrix products" and (speed.product_share or 1.0) < _SMALL_PRODUCTS and larger:
        yield f"{larger}: these products are small"
    elif name == "attention":
        yield "shorter rows (max_seq_len), where answers do not need long ones"
    elif name == "moving memory":
        if larger:
            yield larger
        if facts.get("precision") == "fp32" and not on_cpu:
            yield "precision: bf16, which moves half as much"
    elif name == "optimizer":
        yield f"{more}, or method: lora, so that less is updated, or seldomer"
    elif name == "reading rows":
        yield _READING
    elif name == "Python and launching":
        yield f"no kernel runs in that time: {larger or more}"
    elif name == "communication":
        yield f"{more}, or fewer devices"


def _beside(speed: Speed) -> Iterator[str]:
    """Say what beside the work of a step takes much of the time."""
    if (share := speed.phases.get("canary", 0.0)) >= _MUCH:
        yield f"the canary takes {_percent(share)} of a step: evaluate.canary: 0, or fewer"
    if (share := speed.beside.get("evaluation", 0.0)) >= _MUCH:
        yield f"evaluation takes {_percent(share)} of the run's time: evaluate.every"
    if (share := speed.beside.get("checkpoints", 0.0)) >= _MUCH:
        yield f"checkpoints take {_percent(share)} of the run's time: checkpoint.every"


# --- shown --------------------------------------------------------------------------------------


def speed_line(speed: Speed) -> str:
    """Write it all as one line; empty where nothing is known."""
    if speed.tokens_per_second is None:
        return ""
    parts = [
        f"{format_count(round(speed.target_tokens_per_second or 0))} target tokens/s of "
        f"{format_count(round(speed.tokens_per_second))} tokens/s",
        *_shares_in_words(speed),
    ]
    parts += [speed.bound] if speed.bound else []
    return "; ".join([", ".join(parts), *speed.ways_out])


def _shares_in_words(speed: Speed) -> Iterator[str]:
    if speed.share is not None:
        # Nothing is faster than what it is made of.
        busy = " (which was measured while the machine was busy)" if speed.share > 1 else ""
        yield f"{_percent(speed.share)} of what matrix products reach here{busy}"
    if speed.mfu is not None:
        yield f"{_percent(speed.mfu)} of the data sheet's peak (MFU)"


def write_speed(speed: Speed) -> str:
    """Write it for a run's page, with the numbers behind it; empty where little is known."""
    line = speed_line(speed)
    if not (line and speed.bound):
        return ""
    text = f"## Speed\n\n{escape(line)}.\n"
    text += f"\n{_table('share of a step', speed.phases)}" if speed.phases else ""
    if speed.groups:
        text += f"\nOne step, kernel by kernel:\n\n{_table('share of it', speed.groups)}"
    return text


def _table(what: str, shares: Mapping[str, float]) -> str:
    rows = [[name, _percent(share)] for name, share in shares.items()]
    return table(["", what], rows, right=[what])


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
