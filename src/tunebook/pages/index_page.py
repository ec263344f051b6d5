"""The index page of a book: a dated list of runs, then what is still open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

from tunebook.book.lineage import Lineage
from tunebook.book.run_file import config_parent
from tunebook.book.summary import OVER
from tunebook.pages.lineage import mermaid, setting_words
from tunebook.pages.markdown import code, escape, fence, table
from tunebook.pages.run_page import outcome_word
from tunebook.pages.table import changed_columns, column_value
from tunebook.pages.verdicts import found_in_short
from tunebook.records import Outcome, RunSummary
from tunebook.units import format_number

_CHANGES_SHOWN = 4


def build_index_page(
    runs: Sequence[RunSummary],
    outcomes: Mapping[str, Sequence[Outcome]],
    lineage: Lineage | None = None,
) -> str:
    """Write the generated part of the index page; `outcomes` are those of every run by name."""
    by_name = {run.name: run for run in runs}
    started, waiting = begun_and_waiting(runs)
    parts = ["# Notebook\n"]
    if started:
        parts += ["## History\n", write_history(started, by_name)]
    elif not waiting:
        parts.append("No run yet; `tunebook new NAME` starts one.\n")
    parts += _lineage(lineage)
    parts += _open_predictions(runs, outcomes)
    if waiting:
        parts += ["## To try\n", write_history(waiting, by_name)]
    return "\n".join(parts)


def begun_and_waiting(
    runs: Sequence[RunSummary],
) -> tuple[list[RunSummary], list[RunSummary]]:
    """Tell the runs that have a history, oldest first, from those that wait to be started."""
    begun = [run for run in runs if _has_begun(run)]
    waiting = [run for run in runs if not _has_begun(run)]
    return sorted(begun, key=lambda run: (run.started or "", run.name)), waiting


def _has_begun(run: RunSummary) -> bool:
    # When an imported run was trained is often not known: it is history all the same.
    return bool(run.started) or run.state == "finished"


def write_history(runs: Sequence[RunSummary], book: Mapping[str, RunSummary]) -> str:
    """Write a line or two about each run, as a list."""
    return "\n".join([*(_entry(run, book) for run in runs), ""])


def _entry(run: RunSummary, runs: Mapping[str, RunSummary]) -> str:
    day = f"{_day(run.started)} - " if run.started else ""
    what = [text for text in (run.stage, run.method) if text]
    if run.model:
        what.append(f"on {code(run.model)}")
    said = [text for text in (", ".join(what), _changes(run, runs), _result(run)) if text]
    line = f"- {day}[{run.name}](runs/{run.name}/notebook.md): {'; '.join(said)}"
    if run.tags:
        line += " " + " ".join(f"#{escape(tag)}" for tag in run.tags)
    if run.hypothesis:
        line += f"\n  {escape(run.hypothesis)}"
    return line


def _day(started: str | None) -> str:
    try:
        return date.fromisoformat((started or "")[:10]).strftime("%Y %b %d")
    except ValueError:
        return escape(started or "")


def _changes(run: RunSummary, runs: Mapping[str, RunSummary]) -> str:
    parent = config_parent(run.config)
    keys = [k for k in run.config if not k.startswith(("notebook.", "name", "extends"))]
    changed = sorted(changed_columns(run, keys, runs))
    if not parent or parent not in runs or not changed:
        return ""
    words = setting_words({key: column_value(run, key) for key in changed[:_CHANGES_SHOWN]})
    more = f" and {len(changed) - _CHANGES_SHOWN} more" if len(changed) > _CHANGES_SHOWN else ""
    return f"{parent} with {escape(words)}{more}"


def _result(run: RunSummary) -> str:
    words: list[str] = [run.state]
    if run.val_loss is not None:
        words.append(f"val_loss {format_number(run.val_loss)}")
    elif run.train_loss is not None:
        words.append(f"train_loss {format_number(run.train_loss)}")
    words += [code(kind) if kind in run.verdicts else kind for kind in found_in_short(run)]
    if run.outcome:
        words.append(run.outcome)
    return ", ".join(words)


def _lineage(lineage: Lineage | None) -> list[str]:
    # A book in which every run stands alone needs no graph.
    if lineage is None or all(edge.of_base for edge in lineage.edges):
        return []
    return ["## Lineage\n", fence(mermaid(lineage), "mermaid")]


def _open_predictions(
    runs: Sequence[RunSummary], outcomes: Mapping[str, Sequence[Outcome]]
) -> list[str]:
    rows = []
    for run in runs:
        over = run.state in OVER
        for outcome in outcomes.get(run.name, ()):
            if not over or outcome.held is None:
                rows.append([run.name, code(outcome.text), outcome_word(outcome, over)])
    if not rows:
        return []
    return ["## Open predictions\n", table(["run", "prediction", "so far"], rows)]
