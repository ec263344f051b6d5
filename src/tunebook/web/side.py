"""Questions as rows, models as columns: what each answered, and what of it is different."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import PlainTextResponse, Response

from tunebook.book.codec import dump_json
from tunebook.book.evaluations import read_results
from tunebook.book.places import open_run
from tunebook.errors import MALFORMED, BookError, TunebookError, UsageError
from tunebook.pages.markdown import escape, fence
from tunebook.pages.probes import HEADER, probe_rows, probe_verdicts
from tunebook.pages.spreadsheet import write_csv
from tunebook.pages.word_diff import Piece, cut_at, word_diff
from tunebook.units import format_number
from tunebook.web.desk import Desk, desk_of
from tunebook.web.polls import Poll
from tunebook.web.voting import show_ballot
from tunebook.workflows.compare_sides import split_name
from tunebook.workflows.side_by_side import Answer, Asked, SideBySide, answered, side_by_side

router = APIRouter()

MOST_COLUMNS = 5
A_PAGE = 25
LONG = 1_500
"""Characters of a text that are shown at once; the rest unfolds."""


@dataclass(frozen=True, slots=True)
class View:
    """What a URL asks for; `answers` names a set of answers, `q` and `tag` choose questions."""

    names: tuple[str, ...]
    answers: str | None = None
    q: str = ""
    tag: str = ""
    item: str = ""
    sort: Literal["asked", "judge"] | None = None
    diff: Literal["first", "reference", "none"] = "first"
    page: int = 1

    def query(self, **changed: Any) -> str:
        """Write the same view, or a changed one, as the query of a URL."""
        values = {"run": self.names} | asdict(self) | {"names": None, "page": None} | changed
        plain = {"diff": "first"}
        return urlencode(
            {k: v for k, v in values.items() if v and plain.get(k) != v and (k, v) != ("page", 1)},
            doseq=True,
        )


def read_view(
    run: Annotated[list[str] | None, Query()] = None,
    answers: str | None = None,
    q: str = "",
    tag: str = "",
    item: str = "",
    sort: Literal["asked", "judge", ""] = "",
    diff: Literal["first", "reference", "none"] = "first",
    page: Annotated[int, Query(ge=1)] = 1,
) -> View:
    """Read the query of a URL."""
    names = tuple(dict.fromkeys(name for name in run or () if name))
    return View(names, answers or None, q.strip(), tag, item, sort or None, diff, page)


Viewed = Annotated[View, Depends(read_view)]


@router.get("/side")
def side(request: Request, view: Viewed, blind: bool = False, seed: int = 0) -> Response:
    """Show answers beside each other, or a ballot of two without names where `blind`."""
    desk = desk_of(request)
    if blind:
        poll = Poll(view.names, seed, view.answers)
        return show_ballot(request, poll, counted="counted" in request.query_params)
    values: dict[str, Any] = {"view": view, "answered": answered(desk.shelf.book)}
    if len(view.names) < 2:
        return desk.page(request, "side_choose.html", **values)
    for name in view.names:
        open_run(desk.shelf.book, split_name(name)[0])
    values |= {"probes": _probes(desk, view.names), "probe_header": HEADER}
    try:
        found = _found(desk, view)
    except TunebookError as error:
        return desk.page(request, "side.html", **values, refused=str(error), found=None)
    rows = choose_rows(found, view)
    last = max(1, -(-len(rows) // A_PAGE))
    here = min(view.page, last)
    shown = rows[(here - 1) * A_PAGE : here * A_PAGE]
    return desk.page(
        request,
        "side.html",
        **values,
        refused=None,
        found=found,
        tags=sorted({tag for one in found.questions for tag in one.tags}),
        rows=[_row(one, view) for one in shown],
        n=len(rows),
        page_number=here,
        last=last,
    )


def choose_rows(found: SideBySide, view: View) -> list[Asked]:
    """Choose questions by word, tag and id; by how far their scores lie apart where judged."""
    wanted = view.q.casefold()
    rows = [
        one
        for one in found.questions
        if (not view.tag or view.tag in one.tags)
        and (not view.item or one.item_id == view.item)
        and (not wanted or any(wanted in text.casefold() for text in _texts(one)))
    ]
    if (view.sort or "judge") == "judge" and found.judge:
        rows.sort(key=lambda one: -one.spread)
    return rows


@router.get("/side.json")
def as_json(request: Request, view: Viewed) -> Response:
    """Give the table with all its answers as JSON."""
    found = _found(desk_of(request), view)
    plain = [
        {
            "item_id": one.item_id,
            "question": one.text,
            "reference": one.reference,
            "tags": one.tags,
            "answers": dict(zip(found.names, one.answers, strict=True)),
        }
        for one in choose_rows(found, view)
    ]
    return Response(
        dump_json({"judge": found.judge or None, "questions": plain}, indent=True),
        media_type="application/json",
    )


@router.get("/side.csv")
def as_csv(request: Request, view: Viewed) -> Response:
    """Give a line per question with an answer and a score per model as CSV."""
    found = _found(desk_of(request), view)
    scores = [f"{name} score" for name in found.names]
    rows = []
    for one in choose_rows(found, view):
        texts = [answer.text if answer else None for answer in one.answers]
        values = [answer.score if answer else None for answer in one.answers]
        rows.append([one.item_id, one.text, one.reference, *texts, *values])
    text = write_csv(["item_id", "question", "reference", *found.names, *scores], rows)
    return PlainTextResponse(text, media_type="text/csv; charset=utf-8")


@router.get("/side.md")
def as_markdown(request: Request, view: Viewed) -> Response:
    """Give questions and answers as Markdown, every text in a fence."""
    found = _found(desk_of(request), view)
    parts = [f"# {escape(' beside '.join(found.names))}\n"]
    for one in choose_rows(found, view):
        parts.append(f"## {escape(one.item_id)}\n\n{fence(one.text)}")
        if one.reference:
            parts.append(f"reference\n\n{fence(one.reference)}")
        for name, answer in zip(found.names, one.answers, strict=True):
            if answer is not None:
                scored = "" if answer.score is None else f", {format_number(answer.score)} points"
                parts.append(f"**{escape(name)}**{scored}\n\n{fence(answer.text)}")
    return PlainTextResponse("\n".join(parts), media_type="text/markdown; charset=utf-8")


def _found(desk: Desk, view: View) -> SideBySide:
    if len(view.names) > MOST_COLUMNS:
        raise UsageError(
            f"{len(view.names)} columns are too many to read; name at most {MOST_COLUMNS}"
        )
    try:
        return side_by_side(view.names, desk.shelf.book, view.answers)
    except MALFORMED as error:
        raise BookError(
            f"answers of {', '.join(view.names)} cannot be read ({type(error).__name__}: {error}); "
            "`tunebook compare --ask` asks again"
        ) from None


def _texts(one: Asked) -> list[str]:
    return [one.item_id, one.text, one.reference or "", *(a.text for a in one.answers if a)]


def _row(one: Asked, view: View) -> dict[str, Any]:
    answers = one.answers
    first = answers[0].text if answers[0] else None
    old = {"first": first, "reference": one.reference, "none": None}[view.diff]
    return {
        "one": one,
        "question": _folded([Piece("same", one.text)]),
        "reference": None if one.reference is None else _folded([Piece("same", one.reference)]),
        "cells": [
            _cell(answer, None if view.diff == "first" and place == 0 else old)
            for place, answer in enumerate(answers)
        ],
    }


def _cell(answer: Answer | None, old: str | None) -> dict[str, Any] | None:
    if answer is None:
        return None
    pieces = [Piece("same", answer.text)] if old is None else word_diff(old, answer.text)
    return {
        "answer": answer,
        "text": _folded(pieces or [Piece("same", answer.text)]),
        "same": old is not None and old == answer.text,
        "too_long": pieces is None,
    }


def _folded(pieces: list[Piece]) -> dict[str, Any]:
    head, rest = cut_at(pieces, LONG)
    return {"head": head, "rest": rest, "n": sum(len(p.text) for p in pieces if p.kind != "old")}


def _probes(desk: Desk, names: Sequence[str]) -> list[dict[str, Any]]:
    """Read the newest probe of each of the weights, before against after, class by class."""
    found = []
    for name in names:
        run, weights, *_ = split_name(name)
        probed = read_results(open_run(desk.shelf.book, run), "probe")
        if newest := [
            one for one in probed if one.subject == weights and "measures" in one.details
        ]:
            one = newest[-1]
            shown: dict[str, Any] = {"name": name, "verdicts": [], "classes": [], "refused": ""}
            try:
                shown |= {"verdicts": probe_verdicts(one), "classes": probe_rows(one)}
            except MALFORMED as error:
                shown["refused"] = f"{one.log} cannot be read ({type(error).__name__}: {error})."
            found.append(shown)
    return found
