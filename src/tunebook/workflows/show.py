"""Everything a book knows about one run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tunebook.book.checkpoints import best_step, checkpoint_step, list_checkpoints
from tunebook.book.diagnosis import whole_diagnosis
from tunebook.book.events import Events
from tunebook.book.places import RunFolder, open_run
from tunebook.book.releases import Release, read_releases
from tunebook.pages.lineage import edge_words
from tunebook.pages.run_page import read_page_source
from tunebook.pages.speed import Speed
from tunebook.records import Outcome, RunSummary


@dataclass(frozen=True, slots=True)
class ShownRun:
    """One run with its findings, predictions, data and weights."""

    run: RunFolder
    summary: RunSummary
    events: Events
    outcomes: tuple[Outcome, ...]
    seal_intact: bool | None
    sources: tuple[dict[str, Any], ...]
    plan: Mapping[str, Any]
    checkpoints: tuple[int, ...]
    best_step: int | None
    has_final: bool
    releases: tuple[Release, ...]
    inherited: Mapping[str, str]
    lineage: tuple[str, ...]
    speed: Speed


def show_run(book: Path, name: str) -> ShownRun:
    """Collect what is known about a run; BookError when there is none of that name."""
    run = open_run(book, name)
    source = read_page_source(run, book)
    return ShownRun(
        run=run,
        summary=source.summary,
        events=replace(source.events, diagnosis=whole_diagnosis(run, source.events.diagnosis)),
        outcomes=source.outcomes,
        seal_intact=source.sealed.intact if source.sealed else None,
        sources=tuple(s for s in source.data.get("sources") or [] if isinstance(s, dict)),
        plan=source.plan,
        checkpoints=tuple(checkpoint_step(path) for path in list_checkpoints(run)),
        best_step=best_step(run),
        has_final=run.final.is_dir(),
        releases=tuple(read_releases(run)),
        inherited=source.environment.get("inherited") or {},
        lineage=tuple(edge_words(edge, source.runs) for edge in source.lineage.parents(name)),
        speed=source.steps.speed,
    )
