"""The notebook page of a run: what was expected, what came out, and on what."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from tunebook.book.data_account import read_data
from tunebook.book.diagnosis import whole_diagnosis
from tunebook.book.evaluations import read_results
from tunebook.book.events import Events, read_events
from tunebook.book.index import run_summaries
from tunebook.book.inside import is_inside
from tunebook.book.lineage import Lineage
from tunebook.book.places import RunFolder
from tunebook.book.plans import read_plan
from tunebook.book.predictions import count_outcomes
from tunebook.book.replays import read_replays
from tunebook.book.run_file import config_parent, read_own_yaml, weight_parent
from tunebook.book.seal import Seal, read_seal
from tunebook.book.summary import OVER, bring_to_life, measure, score_all
from tunebook.errors import MALFORMED
from tunebook.pages.evaluations import write_evaluations
from tunebook.pages.facts import write_facts
from tunebook.pages.family import AskedRuns, WholeBook, find_family, whole_book
from tunebook.pages.grids import write_grids
from tunebook.pages.lineage import write_lineage
from tunebook.pages.markdown import code, escape, fence, table
from tunebook.pages.probes import write_probes
from tunebook.pages.replays import write_replays
from tunebook.pages.run_account import write_account, write_first_batch
from tunebook.pages.run_mixture import write_mixture, write_part
from tunebook.pages.run_plan import write_plan
from tunebook.pages.run_result import write_findings, write_loss, write_samples
from tunebook.pages.run_setup import (
    write_checkpoints,
    write_machine,
    write_releases,
    write_settings,
)
from tunebook.pages.run_steps import RunSteps, read_steps
from tunebook.pages.speed import write_speed
from tunebook.pages.table import changed_columns, markdown_table
from tunebook.records import Outcome, RunSummary
from tunebook.units import format_number, format_seconds

if TYPE_CHECKING:
    from tunebook.book.reader import Look

_FAMILY_SETTINGS = 5


@dataclass(frozen=True, slots=True)
class PageSource:
    """Everything a page is written from; `runs` holds the summaries of the whole book."""

    run: RunFolder
    summary: RunSummary
    steps: RunSteps
    sealed: Seal | None
    outcomes: tuple[Outcome, ...]
    environment: Mapping[str, Any]
    data: Mapping[str, Any]
    plan: Mapping[str, Any]
    runs: AskedRuns
    whole: WholeBook

    @property
    def lineage(self) -> Lineage:
        """Where the runs of the book come from."""
        return self.whole.lineage

    @property
    def events(self) -> Events:
        """The events; of a long run without its steps."""
        return self.steps.events


def build_run_page(
    run: RunFolder,
    book: Path,
    runs: Mapping[str, RunSummary] | None = None,
    look: Look | None = None,
) -> str:
    """Write the generated part of a run's page; BookError when its events are damaged.

    `runs` are the summaries of the book by name and `look` the run as it was read, where the
    caller has them already.
    """
    return render_run_page(read_page_source(run, book, runs, look))


def read_page_source(
    run: RunFolder,
    book: Path,
    runs: Mapping[str, RunSummary] | None = None,
    look: Look | None = None,
    whole: WholeBook | None = None,
) -> PageSource:
    """Collect what a run's page is written from; `whole` is the book, where many are collected."""
    if whole is not None:
        runs = whole.runs
    elif runs is None:
        runs = {s.name: s for s in run_summaries(book)}
    # The index hides a damaged run; its own page must say so.
    steps = read_steps(run, look)
    measured = measure(run, (steps.events, steps.totals))
    summary = bring_to_life(run, measured)
    known = AskedRuns(runs, summary)
    outcomes = tuple(score_all(measured.predictions, summary, known.get))
    if summary.state in OVER:
        summary = replace(summary, outcome=count_outcomes(outcomes))
    known = AskedRuns(runs, summary, known.asked)
    if whole is None:
        whole = whole_book(book, {**runs, run.name: summary})
    environment = read_own_yaml(run, run.resolved_yaml).get("environment")
    return PageSource(
        run=run,
        summary=summary,
        steps=steps,
        sealed=read_seal(run),
        outcomes=outcomes,
        environment=environment if isinstance(environment, dict) else {},
        data=read_data(run),
        plan=read_plan(run),
        runs=known,
        whole=whole,
    )


def render_run_page(source: PageSource) -> str:
    """Put the sections of a page together; a section without content is left out."""
    summary, events = source.summary, source.events
    results = read_results(source.run)
    sections = [
        _front_matter(source),
        f"# {summary.name}\n\n{_in_short(source)}\n",
        _hypothesis(source),
        _predictions(source),
        _family(source),
        write_lineage(summary.name, source.lineage, source.runs),
        write_findings(source.steps, whole_diagnosis(source.run, events.diagnosis)),
        _part("Replays", lambda: write_replays(read_replays(source.run))),
        write_loss(source.steps, _picture(source.run)),
        _part("Speed", lambda: write_speed(source.steps.speed)),
        _part("Sources", lambda: write_mixture(with_records(source), source.data)),
        _part("Evaluations", lambda: write_evaluations(results)),
        _part("Probes", lambda: write_probes(results)),
        _part("Facts", lambda: write_facts(results)),
        _part("Sampling grids", lambda: write_grids(results)),
        write_samples(events, summary.model),
        _part("Data", lambda: write_account(source.data)),
        _part("Part of the data", lambda: write_part(source.data, source.environment)),
        write_first_batch(events),
        _part("Plan", lambda: write_plan(source.plan, events)),
        write_machine(events, source.environment, source.steps.work),
        write_settings(summary, _parent(source)),
        write_checkpoints(source.run, summary),
        _part("Releases", lambda: write_releases(source.run)),
        _reproduce(source),
    ]
    return "\n".join(section for section in sections if section)


def _part(title: str, write: Callable[[], str]) -> str:
    """Write a part from files that another hand or release may have written."""
    try:
        return write()
    except MALFORMED as error:
        why = escape(f"{type(error).__name__}: {error}")
        return f"## {title}\n\nThis part of the run's files cannot be read ({why}).\n"


def with_records(source: PageSource) -> Events:
    """Give the events with the records of the steps, which only several sources need."""
    sources = source.data.get("sources")
    if source.events.steps or (isinstance(sources, list) and len(sources) < 2):
        return source.events
    return read_events(source.run)


def _picture(run: RunFolder) -> str:
    """Refer to the figure of a run, where there is one."""
    path = run.curve_svg
    return f"![Loss of {run.name}]({path.name})\n" if is_inside(run.book, path) else ""


def _front_matter(source: PageSource) -> str:
    summary = source.summary
    values = {
        "run": summary.name,
        "state": summary.state,
        "parents": list(summary.parents),
        "base": base_model(summary, source.runs),
        "outcome": summary.outcome,
    }
    more = {
        "extends": config_parent(summary.config),
        "tags": list(summary.tags),
        "started": summary.started,
    }
    values |= {key: value for key, value in more.items() if value}
    # A JSON value on one line is YAML as well, whatever the text holds.
    lines = [f"{key}: {orjson.dumps(value).decode()}" for key, value in values.items()]
    return "\n".join(["---", *lines, "---", ""])


def base_model(summary: RunSummary, runs: Mapping[str, RunSummary]) -> str | None:
    """Follow the weights up to the model that no run of this book made."""
    seen = {summary.name}
    while summary.parents and summary.parents[0] in runs and summary.parents[0] not in seen:
        summary = runs[summary.parents[0]]
        seen.add(summary.name)
    return summary.model


def _parent(source: PageSource) -> RunSummary | None:
    name = config_parent(source.summary.config)
    return source.runs.get(name) if name and name != source.summary.name else None


def _in_short(source: PageSource) -> str:
    summary = source.summary
    words = [f"**{summary.state}**"]
    if summary.step is not None:
        of = f" of {summary.steps}" if summary.steps else ""
        words.append(f"step {summary.step}{of}")
    if summary.seconds is not None:
        words.append(format_seconds(summary.seconds))
    if summary.model:
        words.append(f"{summary.stage or '?'}, {summary.method or '?'} on {code(summary.model)}")
    lines = [" · ".join(words)]
    if imported := _imported(source):
        file, digest = code(str(imported.get("file"))), code(str(imported.get("sha256"))[:12])
        lines.append(
            f"Imported from {file} ({escape(str(imported.get('format')))}, sha256 {digest}): what "
            "it does not say is unknown here, and there are no weights."
        )
    if summary.val_loss is not None:
        base = summary.base_val_loss
        parent = weight_parent(summary.model)
        before = f"{code(parent[0])} before" if parent else "untouched base"
        untouched = f" ({before} {format_number(base)})" if base is not None else ""
        lines.append(
            f"val_loss **{format_number(summary.val_loss)}**{untouched}, perplexity "
            f"{format_number(summary.perplexity)}, train_loss {format_number(summary.train_loss)}"
        )
    elif summary.train_loss is not None:
        lines.append(f"train_loss {format_number(summary.train_loss)}; nothing was held out")
    reason = source.events.states[-1].get("reason") if source.events.states else None
    if reason and summary.state not in ("finished", "running"):
        lines.append(f"It {_ended(summary.state)} because: {escape(str(reason))}")
    return "\n\n".join(lines)


def _imported(source: PageSource) -> Mapping[str, Any]:
    found = source.environment.get("imported")
    return found if isinstance(found, Mapping) else {}


def _ended(state: str) -> str:
    return {"paused": "paused", "stopped": "was stopped", "failed": "failed"}.get(state, "ended")


def _hypothesis(source: PageSource) -> str:
    sealed, text = source.sealed, source.summary.hypothesis
    if text is None and not (sealed and not sealed.intact):
        return ""
    if sealed is None:
        when = "Not sealed yet: that happens when the run starts."
    elif not sealed.intact:
        when = (
            "**The seal is broken:** `seal.json` was changed after it was written, so what stands "
            "here may not be what was expected before step 1."
        )
    else:
        when = f"Sealed {escape(sealed.sealed_at or '')}, before step 1."
    words = fence(text, "text") if text else "No hypothesis was stated.\n"
    links = _links(source.summary)
    return f"## Hypothesis\n\n{words}\n{when}\n{links}"


def _links(summary: RunSummary) -> str:
    links = summary.config.get("notebook.links")
    if not isinstance(links, list) or not links:
        return ""
    return "\n" + "".join(f"- {code(str(link))}\n" for link in links)


def _predictions(source: PageSource) -> str:
    if not source.outcomes:
        return ""
    over = source.summary.state in OVER
    rows = [[code(o.text), escape(o.measured), outcome_word(o, over)] for o in source.outcomes]
    head = table(["prediction", "measured", "outcome" if over else "so far"], rows)
    return f"## Predictions\n\n{head}"


def outcome_word(outcome: Outcome, over: bool) -> str:
    """Say in a word or a clause how a prediction fared."""
    if outcome.held is None:
        return f"unknown: {escape(outcome.reason)}"
    if over:
        return "**held**" if outcome.held else "**failed**"
    return "holding" if outcome.held else "failing"


def _family(source: PageSource) -> str:
    family = find_family(source.summary, source.runs, source.whole.links)
    if len(family) < 2:
        return ""
    settings: list[str] = []
    keys = sorted({key for member in family for key in member.config})
    candidates = [k for k in keys if not k.startswith(("notebook.", "name", "extends"))]
    for member in family:
        settings += sorted(changed_columns(member, candidates, source.runs) - set(settings))
    shown = settings[:_FAMILY_SETTINGS]
    results = ("train_loss", "val_loss", "perplexity", "seconds", "outcome")
    columns = ["name", "state", *shown, *results]
    more = len(settings) - len(shown)
    note = f"\n{more} more changed settings are on the runs' own pages.\n" if more > 0 else ""
    body = markdown_table(family, columns, source.runs)
    return f"## Family\n\nBold: changed against the run it extends.\n\n{body}{note}"


def _reproduce(source: PageSource) -> str:
    name = source.summary.name
    if _imported(source):
        return ""
    commands = f"tunebook new {name}-again --from {name}\ntunebook train {name}-again"
    versions = source.environment.get("versions")
    made = ""
    if isinstance(versions, dict):
        made = escape(", ".join(f"{key} {value}" for key, value in versions.items()))
        made = f"\nMade with {made}.\n"
    return f"## Again\n\n{fence(commands, 'sh')}{made}"
