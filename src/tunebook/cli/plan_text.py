"""The text of a plan, made from the plan alone: one fact a line, under aligned labels."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from tunebook.units import (
    format_bytes,
    format_count,
    format_number,
    format_percent,
    format_seconds,
)

if TYPE_CHECKING:
    from tunebook.plan.result import Plan
    from tunebook.records import Finding

NOT_MEASURED = "not measured"
_LABEL = 12
_COLOURS = {"refused": "red", "warning": "yellow", "accepted": "cyan"}


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of a plan: without a label it belongs to the one above."""

    label: str
    text: str
    indent: int = 0


def plan_text(plan: Plan, width: int | None = None, *, colour: bool = False) -> str:
    """Write a plan; `width` folds long sentences under themselves, None leaves them whole."""
    lines: list[str] = []
    for fact in plan_facts(plan):
        pad = " " * (_LABEL + fact.indent)
        text = fact.text.replace("\n", " ")
        folded = [text]
        if width is not None:
            # A path or a name of a module is copied by double click: it is never broken.
            folded = textwrap.wrap(
                text, max(width - len(pad), 30), break_long_words=False, break_on_hyphens=False
            ) or [""]
        label = fact.label.ljust(_LABEL)
        if colour and fact.label in _COLOURS:
            label = click.style(label, fg=_COLOURS[fact.label], bold=True)
        elif colour:
            label = click.style(label, dim=True)
        lines.append(f"{label}{' ' * fact.indent}{folded[0]}".rstrip())
        lines += [f"{pad}{more}" for more in folded[1:]]
    return "\n".join(lines) + "\n"


def plan_facts(plan: Plan) -> Iterator[Fact]:
    """Give everything a plan knows, in the order a reader asks for it."""
    yield from _model(plan)
    yield from _memory(plan)
    yield from _work(plan)
    yield from _disk(plan)
    yield from _data(plan)
    yield from _tokenizer(plan)
    for word in plan.words:
        yield Fact("note", word)
    yield Fact("checks", _count_checks(plan))
    for finding in sorted(plan.findings, key=lambda found: _LEVELS.index(_level(plan, found))):
        yield Fact(_level(plan, finding), f"{finding.name}: {finding.message}")
        yield Fact("", f"way out: {finding.way_out}")


# --- model and memory ---------------------------------------------------------------------------


def _model(plan: Plan) -> Iterator[Fact]:
    counts = plan.parameters
    yield Fact("model", plan.model)
    yield Fact("", f"{format_count(counts.total)} parameters, {_as_fp32(counts.total)}")
    if counts.total_untied != counts.total:
        yield Fact("", f"{format_count(counts.total_untied)} with the tied head counted apart")
    if counts.packed is not None:
        yield Fact("", f"{format_count(counts.packed)} as a count over packed tensors has it")
    groups = [f"{format_count(n)} {name}" for name, n in counts.groups.items() if n]
    if len(groups) > 1:
        yield Fact("", ", ".join(groups))
    share = counts.trainable / max(counts.total + counts.adapter, 1)
    of = f" in the adapter, {format_percent(share)} of all" if counts.adapter else ""
    if not counts.adapter and counts.trainable != counts.total:
        of = f", {format_percent(share)} of all"
    yield Fact("trainable", f"{format_count(counts.trainable)}{of} (method {plan.method})")
    yield Fact("device", f"{plan.device}, {plan.precision}")


def _as_fp32(parameters: int) -> str:
    return f"{format_bytes(parameters * 4)} as fp32"


def _memory(plan: Plan) -> Iterator[Fact]:
    memory = plan.memory
    batch = memory.longest_batch
    typical = _counted(batch, {"typical_tokens": "tokens"})
    longest = _counted(
        batch, {"tokens": "tokens", "examples": "examples", "longest_example": "in the longest"}
    )
    hidden = "the process" if plan.device.startswith("cpu") else "context and workspace included"
    rows = [
        ("train", memory.train_peak_bytes, typical),
        ("longest batch", memory.longest_batch_bytes, longest),
        ("evaluation", memory.evaluation_peak_bytes, ""),
        ("samples", memory.generation_peak_bytes, ""),
        ("in all", memory.resident_bytes, hidden),
        ("device", memory.device_bytes, _fit(memory.resident_bytes, memory.device_bytes)),
    ]
    for place, (name, size, more) in enumerate(rows):
        unknown = "not known" if name == "device" else NOT_MEASURED
        shown = unknown if size is None else format_bytes(size)
        yield Fact("" if place else "memory", f"{name:<15}{shown:>12}  {more}".rstrip())
    yield Fact("", "the longest batch is made of:")
    total = sum(memory.parts.values()) or 1
    for part, size in memory.parts.items():
        yield Fact("", f"{_words(part):<22}{format_bytes(size):>9}{100 * size / total:>6.0f} %", 2)
    for sentence in memory.stated:
        yield Fact("", f"by formula: {sentence}")


def _counted(counts: Mapping[str, int], names: Mapping[str, str]) -> str:
    return ", ".join(
        f"{format_count(counts[k])} {name}" for k, name in names.items() if k in counts
    )


def _fit(needed: int, device: int | None) -> str:
    if device is None:
        return ""
    if needed <= device:
        return f"fits, {format_bytes(device - needed)} to spare"
    return f"does not fit, {format_bytes(needed - device)} too little"


# --- the work -----------------------------------------------------------------------------------


def _work(plan: Plan) -> Iterator[Fact]:
    yield Fact(
        "batch",
        f"{plan.effective_batch_size} rows a step: {plan.gradient_accumulation_steps} x "
        f"{plan.micro_batch_size}",
    )
    seconds = plan.time.seconds
    yield Fact("time", NOT_MEASURED if seconds is None else f"about {format_seconds(seconds)}")
    counts = [("steps", plan.steps), ("tokens", plan.tokens), ("target tokens", plan.target_tokens)]
    known = [f"{format_count(n)} {name}" for name, n in counts if n is not None]
    if known:
        yield Fact("", ", ".join(known))
    if plan.time.evaluation_seconds is not None:
        yield Fact("", f"of it {format_seconds(plan.time.evaluation_seconds)} evaluation")
    if plan.time.basis:
        yield Fact("", plan.time.basis)
    if plan.probe:
        figures = (f"{_words(key)} {_figure(key, n)}" for key, n in plan.probe.items())
        yield Fact("probe", ", ".join(figures))


def _figure(key: str, value: float) -> str:
    if key.endswith("_bytes"):
        return format_bytes(value)
    if key == "seconds":
        return format_seconds(value)
    return format_count(value) if isinstance(value, int) else format_number(value)


def _disk(plan: Plan) -> Iterator[Fact]:
    disk = plan.disk
    if disk is None:
        yield Fact("disk", NOT_MEASURED)
        return
    yield Fact(
        "disk",
        f"{format_bytes(disk.needed_bytes)} needed, {format_bytes(disk.free_bytes)} free on its "
        "volume",
    )
    yield Fact(
        "",
        f"{disk.kept} checkpoints x {format_bytes(disk.checkpoint_bytes)} + final "
        f"{format_bytes(disk.final_bytes)}",
    )


def _data(plan: Plan) -> Iterator[Fact]:
    if plan.rows is None:
        yield Fact("data", NOT_MEASURED)
        return
    known = [key for key in ("in", "dropped", "out", "cut") if key in plan.rows]
    counts = [f"{format_count(plan.rows[key])} {key}" for key in known]
    yield Fact("data", f"rows: {', '.join(counts)}")
    if plan.epochs is not None:
        epochs = f"{plan.epochs:.3g} epoch{'s' * (plan.epochs != 1)}"
        each, held_out = (format_count(plan.rows[key]) for key in ("an_epoch", "held_out"))
        yield Fact("", f"{epochs} of {each} rows, {held_out} rows held out")
    for reason, n in plan.dropped.items():
        yield Fact("", f"dropped {format_count(n)} {reason}")
    if plan.tokens and plan.target_tokens is not None:
        yield Fact("", f"{format_percent(plan.target_tokens / plan.tokens)} of tokens carry loss")
    if plan.lengths:
        known = [key for key in ("mean", "median", "p95", "max") if key in plan.lengths]
        figures = (f"{key} {plan.lengths[key]:,.4g}" for key in known)
        yield Fact("", f"length in tokens: {', '.join(figures)}")


def _tokenizer(plan: Plan) -> Iterator[Fact]:
    tokenizer = plan.tokenizer
    if tokenizer is None:
        yield Fact("tokenizer", NOT_MEASURED)
        return
    yield Fact("tokenizer", f"{tokenizer.name}, {format_count(tokenizer.vocabulary)} tokens")
    if tokenizer.template:
        yield Fact("", f"template {tokenizer.template}")
    if tokenizer.end_token is None:
        yield Fact("", "it has no end token")
    else:
        share = tokenizer.end_trained
        trained = NOT_MEASURED if share is None else f"{format_percent(share)} of rows"
        yield Fact("", f"end token {tokenizer.end_token}, trained in: {trained}")
    for note in tokenizer.notes:
        yield Fact("", note)


# --- the checks ---------------------------------------------------------------------------------

_LEVELS = ("refused", "accepted", "warning")


def _level(plan: Plan, finding: Finding) -> str:
    if finding.level == "warn":
        return "warning"
    return "accepted" if plan.is_accepted(finding) else "refused"


def _count_checks(plan: Plan) -> str:
    levels = [_level(plan, finding) for finding in plan.findings]
    counts = [(levels.count(level), level) for level in _LEVELS if level in levels]
    found = [f"{n} {level}{'s' * (level == 'warning' and n > 1)}" for n, level in counts]
    unseen = ["those of data not checked"] if plan.rows is None else []
    return ", ".join([f"{plan.n_passed} checks passed", *unseen, *found])


def _words(key: str) -> str:
    return key.removesuffix("_bytes").replace("_", " ")
