"""Two to ten runs beside each other: what differs, their curves, and what their scores say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import comb
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import PlainTextResponse, Response

from tunebook.book.codec import dump_json
from tunebook.book.places import open_run
from tunebook.book.summary import bring_to_life, measure
from tunebook.errors import MALFORMED, DefectError, TunebookError, UsageError
from tunebook.pages.comparison import PAIR_HEADER, SCORE_HEADER, pair_cells, score_cells
from tunebook.pages.markdown import escape, table
from tunebook.pages.spreadsheet import write_csv
from tunebook.pages.table import cell_text
from tunebook.records import Finding, RunSummary
from tunebook.watch.between import Side, change_words, find_confounded, settings_changed
from tunebook.web.compare_view import panel_of, title_of
from tunebook.web.comparisons import MOST_COMPARED, Asked
from tunebook.web.curves import MOST_RUNS
from tunebook.web.desk import Desk, desk_of
from tunebook.workflows.compare_sides import split_name
from tunebook.workflows.diff import data_changes, differing_settings, results_of, whole_summary
from tunebook.workflows.versus_runs import settings_beside

router = APIRouter()

COLOURS = 10


@dataclass(frozen=True, slots=True)
class Choice:
    """What a URL asks for; `by` is a kind of evaluation, None for all there are."""

    names: tuple[str, ...]
    by: str | None = None
    margin: float | None = None
    shared: bool = False
    sort: str | None = None

    @property
    def runs(self) -> list[str]:
        """The runs named, each once; RUN/base and RUN/best are weights of one."""
        return list(dict.fromkeys(split_name(name)[0] for name in self.names))

    @property
    def colours(self) -> dict[str, int]:
        """Number the colour of each name, the one that its run has among the curves."""
        places = {run: place for place, run in enumerate(self.runs)}
        return {name: places[split_name(name)[0]] % COLOURS + 1 for name in self.names}

    def asked(self, kind: str, names: Sequence[str] = ()) -> Asked:
        """Ask for the comparison of a kind."""
        return Asked(tuple(names or self.names), kind, self.margin, self.shared, self.sort)

    def query(self, **changed: Any) -> str:
        """Write the same choice, or a changed one, as the query of a URL."""
        values = {"run": self.names, "by": self.by, "margin": self.margin, "sort": self.sort}
        values |= {"shared": 1 if self.shared else None, **changed}
        return urlencode({k: v for k, v in values.items() if v is not None}, doseq=True)


def read_choice(
    run: Annotated[list[str] | None, Query()] = None,
    by: str | None = None,
    margin: float | None = None,
    shared: bool = False,
    sort: str | None = None,
) -> Choice:
    """Read the query of a URL."""
    names = tuple(dict.fromkeys(name for name in run or () if name))
    if len(names) > MOST_RUNS:
        raise UsageError(f"{len(names)} runs are too many to draw; name at most {MOST_RUNS}")
    return Choice(names, by or None, margin, shared, sort or None)


Chosen = Annotated[Choice, Depends(read_choice)]


def read_two(choice: Chosen) -> Choice:
    """Read a choice of which there is something to give; UsageError for fewer than two runs."""
    if len(choice.names) < 2:
        raise UsageError("name the runs to compare, two at least: ?run=a&run=b")
    return choice


TwoChosen = Annotated[Choice, Depends(read_two)]


@router.get("/compare")
def compare(request: Request, choice: Chosen) -> Response:
    """Show runs beside each other; the form to choose them where fewer than two are named."""
    desk = desk_of(request)
    summaries = desk.shelf.summaries()
    values: dict[str, Any] = {"choice": choice, "all_runs": list(summaries.values())}
    if len(choice.names) < 2:
        return desk.page(request, "compare_choose.html", **values)
    runs = _summaries(desk, choice.runs, summaries)
    kinds = _kinds(desk, choice)
    return desk.page(
        request,
        "compare.html",
        **values,
        runs=choice.runs,
        colours=choice.colours,
        curves={"runs": choice.runs, "panels": [["loss", "val_loss"]]},
        settings=_cells(differing_settings(runs)),
        results=_cells(results_of(runs)),
        changes=_changes(desk, runs),
        panels=[
            {
                "title": title_of(kind),
                "kind": kind,
                "query": choice.query(run=names, by=kind),
                "pairs": len(names) - 1 if choice.sort else comb(len(names), 2),
                "shown": _panel(desk, choice, kind, names, only_known=True),
            }
            for kind, names in kinds.items()
        ],
        commands=desk.comparisons.commands(choice.names),
        too_many=len(choice.names) > MOST_COMPARED,
        most=MOST_COMPARED,
    )


@router.get("/compare/scores")
def scores(request: Request, choice: TwoChosen) -> Response:
    """Give the panel of one kind of evaluation; a refusal is a sentence in it."""
    desk = desk_of(request)
    shown = _panel(desk, choice, choice.by or "loss", choice.names)
    return desk.page(request, "compare_scores.html", panel=shown)


@router.get("/compare/causes")
def causes(request: Request, choice: Chosen) -> Response:
    """Say of two runs what of their changes cannot be a cause, and whether they are shown apart."""
    desk = desk_of(request)
    try:
        if len(choice.runs) != 2:
            raise UsageError("causes are looked for between two runs; name two")
        # It reads whole logs and imports scipy: the page is there before it.
        found = desk.comparisons.causes(choice.runs[1], choice.runs[0])
        said = [
            *((v.kind, v.cause, v.next_action) for v in found.verdicts if v.kind != "confounded"),
            # The page compares by a judge itself, where both were judged.
            *(("note", note, "") for note in found.notes if "--by judge" not in note),
        ]
    except TunebookError as error:
        said = [("note", str(error), "")]
    return desk.page(request, "compare_causes.html", said=said)


@router.get("/compare.json")
def as_json(request: Request, choice: TwoChosen) -> Response:
    """Give what `tunebook compare --json` prints."""
    found = desk_of(request).comparisons.compare(choice.asked(choice.by or "loss"))
    return Response(dump_json(found.plain(), indent=True), media_type="application/json")


@router.get("/compare.md")
def as_markdown(request: Request, choice: TwoChosen) -> Response:
    """Give all tables of the page as Markdown."""
    desk = desk_of(request)
    runs = _summaries(desk, choice.runs)
    heads = ("setting", *choice.runs), ("result", *choice.runs)
    parts = [f"# {escape(' against '.join(choice.names))}\n"]
    for title, head, rows in zip(
        ("Settings that differ", "Results"), heads, _settings(runs), strict=True
    ):
        shown = [[escape(cell) for cell in row] for row in rows]
        parts.append(f"## {title}\n\n" + (table(head, shown) if rows else "None.\n"))
    parts += [f"{escape(text)}\n" for text in _change_words(_changes(desk, runs))]
    for kind, names in _kinds(desk, choice).items():
        parts.append(f"## {title_of(kind)}\n")
        try:
            found = desk.comparisons.compare(choice.asked(kind, names))
        except TunebookError as error:
            parts.append(f"{escape(str(error))}\n")
            continue
        parts.append(f"{escape(found.unit)}\n")
        scored = [score_cells(name, one) for name, one in found.estimates.items()]
        pairs = [pair_cells(pair, one) for pair, one in found.pairs.items()]
        for head, rows in ((SCORE_HEADER, scored), (PAIR_HEADER, pairs)):
            if rows:
                parts.append(table(head, [[escape(c) for c in row] for row in rows], head[1:]))
        parts += [f"{escape(said)}\n" for said in _said(found.notes, found.findings)]
    return PlainTextResponse("\n".join(parts), media_type="text/markdown; charset=utf-8")


@router.get("/compare.csv")
def as_csv(request: Request, choice: TwoChosen, table: str = "pairs") -> Response:
    """Give one table of the page as CSV: settings, results, scores or pairs."""
    desk = desk_of(request)
    if table in ("settings", "results"):
        rows = _settings(_summaries(desk, choice.runs))[table == "results"]
        return _csv((table[:-1], *choice.runs), rows)
    if table not in ("scores", "pairs"):
        raise UsageError(f"there is no table {table}; there is settings, results, scores, pairs")
    head = PAIR_HEADER if table == "pairs" else SCORE_HEADER
    rows = []
    for kind, names in _kinds(desk, choice).items():
        try:
            found = desk.comparisons.compare(choice.asked(kind, names))
        except TunebookError as error:
            rows.append([kind, " against ".join(names), str(error)])
            continue
        if table == "pairs":
            rows += [[kind, *pair_cells(pair, one)] for pair, one in found.pairs.items()]
        else:
            rows += [[kind, *score_cells(name, one)] for name, one in found.estimates.items()]
    return _csv(("evaluation", *head), rows)


def _csv(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Response:
    return PlainTextResponse(write_csv(head, rows), media_type="text/csv; charset=utf-8")


def _summaries(
    desk: Desk, names: Sequence[str], known: Mapping[str, RunSummary] | None = None
) -> list[RunSummary]:
    """Summarize runs, reading those that the server has not read yet."""
    book, found = desk.shelf.book, []
    known = desk.shelf.summaries() if known is None else known
    for name in names:
        run = open_run(book, name)  # says what is wrong with a name
        one = known.get(name)
        if one is None or not one.config:
            one = bring_to_life(run, measure(run, desk.shelf.look(name).totals()))
        found.append(whole_summary(book, one))
    return found


def _kinds(desk: Desk, choice: Choice) -> dict[str, list[str]]:
    """Name what there is to compare by and of which; what the URL asks for, whatever there is."""
    if choice.by is not None:
        return {choice.by: list(choice.names)}
    return desk.comparisons.kinds(choice.names)


def _panel(
    desk: Desk, choice: Choice, kind: str, names: Sequence[str], *, only_known: bool = False
) -> dict[str, Any] | None:
    """Compare, or say why not; None where it is not known yet and `only_known` is asked for."""
    asked = choice.asked(kind, names)
    shown: dict[str, Any] = {"kind": kind, "title": title_of(kind), "refused": None, "shared": None}
    try:
        found = desk.comparisons.known(asked)
        if found is None and only_known:
            return None
        found = found or desk.comparisons.compare(asked)
    except TunebookError as error:
        shown["refused"] = str(error)
        if isinstance(error, DefectError) and "--shared-only" in str(error):
            shown["shared"] = f"/compare?{choice.query(by=kind, shared=1)}"
        return shown
    return shown | panel_of(found, choice.colours) | {"said": _said(found.notes, found.findings)}


def _said(notes: Iterable[str], findings: Iterable[Finding]) -> list[str]:
    return [*(f"{one.name}: {one.message} {one.way_out}" for one in findings), *notes]


def _cells(rows: Mapping[str, Sequence[object]]) -> list[tuple[str, list[tuple[str, bool]]]]:
    """Write values as people read them; marked where they differ from the first."""
    return [
        (key, [(cell_text(key, value) or "–", value != values[0]) for value in values])
        for key, values in rows.items()
    ]


def _settings(runs: Sequence[RunSummary]) -> tuple[list[list[str]], list[list[str]]]:
    settings, results = (
        [[key, *(text for text, _ in cells)] for key, cells in _cells(rows)]
        for rows in (differing_settings(runs), results_of(runs))
    )
    return settings, results


def _changes(desk: Desk, runs: Sequence[RunSummary]) -> list[dict[str, Any]]:
    """Say of each run but the first how many changes it is away, and what that allows to say."""
    book, then, found = desk.shelf.book, runs[0], []
    one = open_run(book, then.name)
    for now in runs[1:]:
        other = open_run(book, now.name)
        sides = (
            Side(then.name, settings_beside(one, then, other)),
            Side(now.name, settings_beside(other, now, one)),
        )
        changed = settings_changed(*sides)
        confounded = find_confounded(*sides, changed)
        known = then.examples_hash is not None and now.examples_hash is not None
        found.append(
            {
                "name": now.name,
                "first": then.name,
                "n": len(changed),
                "words": [change_words(key, change) for key, change in changed.items()],
                "next": confounded.next_action if confounded else "",
                "data": _data_words(book, then.name, now.name),
                "other_examples": known and then.examples_hash != now.examples_hash,
            }
        )
    return found


def _data_words(book: Path, left: str, right: str) -> list[str]:
    try:
        return data_changes(book, left, right)
    except MALFORMED as error:
        why = f"{type(error).__name__}: {error}"
        return [f"how the data of {left} and {right} differ: a data.json cannot be read ({why})"]


def _change_words(changes: Sequence[Mapping[str, Any]]) -> list[str]:
    found = []
    for one in changes:
        changed = f"{one['n']} change{'s' * (one['n'] != 1)} from {one['first']} to {one['name']}"
        alone = "; none of them alone can be called the cause" if one["n"] > 1 else ""
        found.append(f"{changed}{alone}: {'; '.join(one['words']) or 'none that decides'}.")
        found += one["data"]
    return found
