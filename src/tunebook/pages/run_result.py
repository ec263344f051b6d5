"""The part of a run's page that says what came out: findings, curves, samples."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tunebook.book.events import Events
from tunebook.book.run_file import weight_parent
from tunebook.book.step_totals import Work
from tunebook.book.summary import perplexity
from tunebook.pages.curve import draw_curve
from tunebook.pages.markdown import code, escape, fence, table
from tunebook.pages.run_steps import RunSteps
from tunebook.pages.verdicts import (
    blind_lines,
    evidence_rows,
    head_text,
    next_command,
    quiet_kinds,
)
from tunebook.records import Diagnosis, Sample, ValidationRecord, Verdict
from tunebook.units import format_count, format_number

_VALIDATION_ROWS = 12


def write_findings(found: RunSteps, diagnosis: Diagnosis) -> str:
    """Write each verdict with its evidence, then what was quiet and what nobody could look for."""
    events, run, n_steps = found.events, found.curves.name, found.work.steps
    if not n_steps and not diagnosis.verdicts:
        return ""
    parts = [_verdict(run, verdict) for verdict in diagnosis.verdicts]
    # The row of an imported table has no step, and its loss is of rows that were held out.
    if n_steps and diagnosis.final and (quiet := quiet_kinds(diagnosis)):
        steps = f"all {format_count(n_steps)} recorded steps"
        parts.append(f"Looked for in {steps} and not found: {', '.join(map(code, quiet))}.\n")
    parts += [f"Not looked for: {escape(line)}.\n" for line in blind_lines(diagnosis)]
    if n_steps and not any(v.step > 0 for v in events.validations):
        parts.append("Nothing was held out, so overfitting cannot be judged.\n")
    return "## Findings\n\n" + "\n".join(parts) if parts else ""


def _verdict(run: str, verdict: Verdict) -> str:
    text = f"**{escape(head_text(verdict))}**: {escape(verdict.cause)}.\n"
    if verdict.kind == "no_fault_found":
        return text
    rows = [[escape(name), escape(value)] for name, value in evidence_rows(verdict)]
    text += f"\n{table(['evidence', ''], rows)}\nNext: {escape(verdict.next_action)}.\n"
    command = next_command(run, verdict)
    return f"{text}\n{fence(command, 'sh')}" if command else text


BRAILLE = "text curve"
"""The language of the fence around a curve in braille: a page with the figure leaves it out."""


def write_loss(found: RunSteps, picture: str = "") -> str:
    """Write the loss curve and the table of validations; `picture` is Markdown, shown first."""
    curves, validations = found.curves, found.events.validations
    if not curves.steps and not validations:
        return ""
    curve = draw_curve(
        curves.steps,
        curves.losses,
        [(step, loss) for step, loss, _ in curves.held_out],
        marks=[first for _, first, _ in curves.flags],
    )
    note = work_words(found.work)
    shown = f"{picture}\n{fence(curve, BRAILLE)}" if picture else fence(curve, BRAILLE)
    return f"## Loss\n\n{shown}\n{note}{write_validations(validations)}"


def work_words(work: Work) -> str:
    """Say how often gradients were clipped and updates left out; empty where it is not known."""
    known = f"gradient clipped in {work.clipped} of {work.clip_known} steps"
    words = [known] if work.clip_known else []
    if work.left_out:
        words.append(f"{work.left_out} updates left out because they were not finite")
    return f"{'; '.join(words)}.\n".capitalize() if words else ""


def write_validations(validations: Sequence[ValidationRecord]) -> str:
    """Write the table of validations."""
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
