"""The part of a run's page that says what came out: findings, curves, samples."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from tunebook.book.events import Events
from tunebook.book.run_file import weight_parent
from tunebook.book.summary import perplexity
from tunebook.pages.curve import draw_curve
from tunebook.pages.markdown import code, escape, fence, table
from tunebook.records import RunSummary, Sample, ValidationRecord, Verdict
from tunebook.units import format_count, format_number

_VALIDATION_ROWS = 12
_OTHERS = "overfitting, spikes and divergence were not looked for"


def write_findings(events: Events, summary: RunSummary, kinds: Sequence[str]) -> str:
    """Write each verdict with its evidence, and which detectors looked without finding anything."""
    if not events.steps:
        return ""
    parts = [_verdict(verdict) for verdict in events.verdicts]
    quiet = [kind for kind in kinds if kind not in summary.verdicts]
    if quiet and summary.state != "running":
        steps = f"all {format_count(len(events.steps))} recorded steps"
        parts.append(
            f"{', '.join(map(code, quiet))} looked at {steps} and found nothing; {_OTHERS}.\n"
        )
    if not any(validation.step > 0 for validation in events.validations):
        parts.append("Nothing was held out, so overfitting cannot be judged.\n")
    return "## Findings\n\n" + "\n".join(parts) if parts else ""


def _verdict(verdict: Verdict) -> str:
    where = "" if verdict.step is None else f", step {verdict.step}"
    if verdict.last_step not in (None, verdict.step):
        where = f", steps {verdict.step} to {verdict.last_step}"
    rows = [[escape(key), _evidence(value)] for key, value in verdict.evidence.items()]
    return (
        f"**{escape(verdict.kind)}**{where} ({escape(verdict.confidence)}): "
        f"{escape(verdict.cause)}. Next: {escape(verdict.next_action)}.\n\n"
        f"{table(['evidence', ''], rows)}"
    )


def _evidence(value: object) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, float):
        return format_number(value)
    if isinstance(value, (list, tuple)):
        return ", ".join(code(str(item)) for item in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{escape(str(k))} {_evidence(v)}" for k, v in value.items())
    return escape(str(value))


def write_loss(events: Events) -> str:
    """Write the loss curve and the table of validations."""
    if not events.steps and not events.validations:
        return ""
    curve = draw_curve(
        [step.step for step in events.steps],
        [step.loss for step in events.steps],
        [(validation.step, validation.loss) for validation in events.validations],
    )
    known = [step.clipped for step in events.steps if step.clipped is not None]
    left_out = sum(step.applied is False for step in events.steps)
    words = [f"gradient clipped in {sum(known)} of {len(known)} steps"] if known else []
    if left_out:
        words.append(f"{left_out} updates left out because they were not finite")
    note = f"{'; '.join(words)}.\n".capitalize() if words else ""
    return f"## Loss\n\n{fence(curve, 'text')}\n{note}{_validations(events.validations)}"


def _validations(validations: Sequence[ValidationRecord]) -> str:
    if not validations:
        return ""
    finite = [v for v in validations if v.step > 0 and math.isfinite(v.loss)]
    best = min(finite, key=lambda v: v.loss) if finite else None
    rows = []
    for validation in thin(validations, _VALIDATION_ROWS, best):
        loss = format_number(validation.loss)
        rows.append(
            [
                str(validation.step),
                f"**{loss}**" if validation is best else loss,
                _interval(validation),
                format_number(perplexity(validation.loss)),
            ]
        )
    last = validations[-1]
    header = ["step", "val_loss", "95 % interval", "perplexity"]
    counts = (last.examples, last.documents, last.target_tokens)
    known = [format_count(count) for count in counts if count is not None]
    held_out = "\nHeld out: an unknown number of examples"
    if len(known) == len(counts):
        held_out = (
            f"\nHeld out: {known[0]} examples in {known[1]} documents, {known[2]} target tokens"
        )
    shown = "" if len(rows) == len(validations) else f"; {len(rows)} of {len(validations)} shown"
    bold = "; bold: the best" if best else ""
    return "\n" + table(header, rows, right=header) + f"{held_out}{shown}{bold}.\n"


def _interval(validation: ValidationRecord) -> str:
    if validation.interval is None:
        return "unknown"
    low, high = validation.interval
    return f"{format_number(low)} to {format_number(high)}"


def thin(
    validations: Sequence[ValidationRecord], rows: int, keep: ValidationRecord | None
) -> list[ValidationRecord]:
    """Choose about `rows` validations evenly, the first, the last and `keep` always among them."""
    if len(validations) <= rows:
        return list(validations)
    last = len(validations) - 1
    chosen = {round(i * last / (rows - 1)) for i in range(rows)}
    return [v for i, v in enumerate(validations) if i in chosen or v is keep]


def write_samples(events: Events, model: str | None = None) -> str:
    """Write what the model answered before and after, prompt by prompt.

    `model` is as its author named it: weights of another run are called by its name.
    """
    by_prompt: dict[str, list[Sample]] = {}
    for sample in events.samples:
        by_prompt.setdefault(sample.prompt, []).append(sample)
    if not by_prompt:
        return ""
    parts = ["## Samples\n"]
    parent = weight_parent(model)
    untouched = f"the weights of {code(parent[0])}" if parent else "the untouched model"
    settings = dict.fromkeys(sample.settings for sample in events.samples)
    parts.append(f"Settings: {escape('; '.join(settings))}.\n")
    for number, (prompt, samples) in enumerate(by_prompt.items(), start=1):
        parts.append(f"**Prompt {number}**\n\n{fence(prompt, 'text')}")
        for sample in _ends(samples):
            after = f"After step {sample.step}"
            when = f"Before, {untouched}" if sample.step == 0 else after
            parts.append(f"{when}:\n\n{fence(sample.text, 'text')}")
        reference = next((s.reference for s in samples if s.reference is not None), None)
        if reference is not None:
            parts.append(f"Reference:\n\n{fence(reference, 'text')}")
    return "\n".join(parts)


def _ends(samples: Sequence[Sample]) -> list[Sample]:
    ordered = sorted(samples, key=lambda sample: sample.step)
    return ordered[:1] if len(ordered) == 1 else [ordered[0], ordered[-1]]
