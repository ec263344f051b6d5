"""The part of a model card that says what was measured of the weights, and what was found."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from huggingface_hub import EvalResult

from tunebook.book.checkpoints import best_step
from tunebook.book.diagnosis import whole_diagnosis
from tunebook.book.evaluations import read_results
from tunebook.book.releases import Release
from tunebook.book.summary import perplexity
from tunebook.pages.card_data import count
from tunebook.pages.card_lineage import hub_data, source_name, sources_of
from tunebook.pages.elo import elo_lines
from tunebook.pages.evaluations import HEADER, evaluation_row, interval_text
from tunebook.pages.markdown import code, escape, table
from tunebook.pages.probes import HEADER as PROBE_HEADER
from tunebook.pages.probes import probe_rows, probe_verdicts
from tunebook.pages.run_page import PageSource
from tunebook.pages.verdicts import head_text, quiet_kinds
from tunebook.records import Evaluation, ValidationRecord
from tunebook.units import format_number

_HERE = "these weights"
_BASE = "base"
# Answers are kept for other evaluations, and a grid says how to sample, not how good the model is.
_NO_RESULT = ("answers", "grid")
# Of a probe's thirty numbers, those that say what was learned, and what it cost.
_SHOWN = ("log-likelihood ratio, references", "spill-over", "KL(base", "loss on the general text")
_HASH = re.compile("[0-9a-f]{64}")
_ASKED = ("data", "questions", "prompts", "facts")


def validation_at(source: PageSource, step: int) -> ValidationRecord | None:
    """Find the held-out loss of a step; None where nothing was measured then."""
    return next((v for v in source.events.validations if v.step == step), None)


def own_evaluations(release: Release, source: PageSource) -> list[Evaluation]:
    """List what the book has measured of these weights and of their base, paths left out."""
    own, since = _subjects(release, source)
    kept = []
    for one in read_results(source.run):
        if one.kind in _NO_RESULT or (one.subject == "best" and one.finished < since):
            continue
        if one.subject in own or one.subject == _BASE:
            files = {k: _bare(one.settings[k]) for k in _ASKED if k in one.settings}
            subject = _BASE if one.subject == _BASE else _HERE
            settings = {**one.settings, **files}
            against = None if one.against is None else str(_bare(one.against))
            kept.append(replace(one, subject=subject, settings=settings, against=against))
    return kept


def _subjects(release: Release, source: PageSource) -> tuple[set[str], str]:
    """Give the names that evaluations may have these weights under, and since when `best` is."""
    own = {release.weights, f"step-{release.step}"}
    steps = source.events.steps
    last = source.summary.step if not steps else steps[-1].step
    if release.step == last:
        own.add("final")
    if best_step(source.run) == release.step:
        own.add("best")
    saved = [str(c["time"]) for c in source.events.checkpoints if c.get("step") == release.step]
    return own, saved[-1] if saved else ""


def _bare(value: object) -> object:
    return PurePosixPath(value).name if isinstance(value, str) and "/" in value else value


def write_results(release: Release, source: PageSource) -> str:
    """Write held-out loss before and after, every evaluation, and what nobody measured."""
    rows = [
        _held_out("before training", validation_at(source, 0)),
        _held_out(_HERE, validation_at(source, release.step)),
    ]
    header = ["", "held-out loss", "95 % interval", "perplexity", "examples", "target tokens"]
    found = own_evaluations(release, source)
    missing = ["safety", "bias"]
    if not any(one.kind in ("judge", "pairs", "votes") for one in found):
        missing.insert(0, "quality as people or a judge see it")
    if not any(one.kind.startswith("harness:") or one.kind == "facts" for one in found):
        missing.insert(-2, "other tasks and languages")
    parts = [
        f"## Results\n\n{table(header, rows, right=header[1:])}",
        _evaluations(found),
        *_probes(found),
        f"Not measured: {', '.join(missing)}.\n",
    ]
    return "\n".join(part for part in parts if part)


def _held_out(name: str, found: ValidationRecord | None) -> list[str]:
    if found is None:
        return [name, *["not measured"] * 5]
    return [
        name,
        format_number(found.loss),
        interval_text(found.interval),
        format_number(perplexity(found.loss)),
        count(found.examples),
        count(found.target_tokens),
    ]


def _evaluations(found: Sequence[Evaluation]) -> str:
    if not any(one.subject == _HERE for one in found):
        return ""
    rows = [[escape(cell) for cell in evaluation_row(one)] for one in found]
    elos = "".join(
        f"- {escape(one.subject)}, {escape(str(one.settings.get('policy')))}: "
        f"{escape('; '.join(line.strip() for line in elo_lines(one.details)))}\n"
        for one in found
        if "elo" in one.details
    )
    elos = f"\nElo of games, by policy:\n\n{elos}" if elos else ""
    return f"Asked after training:\n\n{table(HEADER, rows, ('score', 'n', 'missing'))}{elos}"


def _probes(found: Sequence[Evaluation]) -> Iterator[str]:
    probes = [one for one in found if one.kind == "probe" and one.subject == _HERE]
    for one in probes[-1:]:
        said = "".join(f"- {escape(line)}\n" for line in probe_verdicts(one))
        rows = [
            [escape(group), *map(escape, cells)]
            for group, measures in probe_rows(one)
            for cells in measures
            if cells[0].startswith(_SHOWN)
        ]
        right = ("its value", "tuned", "difference")
        yield f"Probes, on and off the domain of the training data:\n\n{said}"
        if rows:
            yield table(("prompts", *PROBE_HEADER), rows, right)


def write_verdicts(source: PageSource) -> str:
    """Write what detectors and evaluations found in the run, and how the predictions fared."""
    diagnosis = whole_diagnosis(source.run, source.events.diagnosis)
    parts = []
    if diagnosis.verdicts:
        lines = [
            f"- **{escape(head_text(one))}**: {escape(one.cause)}.\n" for one in diagnosis.verdicts
        ]
        parts.append(f"Found in the run:\n\n{''.join(lines)}")
    if quiet := quiet_kinds(diagnosis):
        parts.append(f"Looked for and not found: {', '.join(map(code, quiet))}.\n")
    if source.sealed and source.sealed.predictions and source.summary.outcome:
        parts.append(f"Predictions sealed before step 1: {escape(source.summary.outcome)}.\n")
    return "## Verdicts\n\n" + "\n".join(parts) if parts else ""


# --- for the hub --------------------------------------------------------------------------------


def hub_results(release: Release, source: PageSource) -> list[EvalResult]:
    """Give the results in the hub's own form, so that its pages can show them."""
    results = list(_held_out_results(release, source))
    for one in own_evaluations(release, source):
        if one.subject != _HERE or one.score is None or not math.isfinite(one.score):
            continue
        if one.kind == "loss" and one.settings.get("data") == "held out":
            continue  # given above, as training measured it
        files = [str(one.settings[k]) for k in _ASKED if k in one.settings]
        asked = next((name for name in files if not _HASH.fullmatch(name)), one.kind)
        name = f"{one.kind}, {one.unit}, {_within(one.interval, one.n)}"
        results.append(_result(one.kind, name, one.score, one.kind, asked))
    return results


def _held_out_results(release: Release, source: PageSource) -> Iterator[EvalResult]:
    paths = [str(one.get("path")) for one in sources_of(source.data)]
    ids = [found[0] for path in paths if (found := hub_data(path))]
    kind = ids[0] if len(ids) == len(paths) == 1 else "held-out"
    asked = f"held-out rows of {', '.join(map(source_name, paths)) or 'the training data'}"
    record = validation_at(source, release.step)
    if record is None or not math.isfinite(record.loss):
        return
    name = f"held-out loss, {_within(record.interval, record.examples)}"
    yield _result("loss", name, record.loss, kind, asked)
    value = perplexity(record.loss)
    if math.isfinite(value):
        yield _result("perplexity", "held-out perplexity", value, kind, asked)


def _within(interval: Sequence[float] | None, n: int | None) -> str:
    said = "interval unknown" if interval is None else f"95 % interval {interval_text(interval)}"
    return said if n is None else f"{said}, n {n}"


def _result(kind: str, name: str, value: float, dataset: str, asked: str) -> EvalResult:
    return EvalResult(
        task_type="text-generation",
        dataset_type=dataset,
        dataset_name=asked,
        metric_type=kind,
        metric_name=name,
        metric_value=round(value, 6),
    )
