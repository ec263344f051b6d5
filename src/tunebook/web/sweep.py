"""Runs over the settings in which they differ, and which of these go with the result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from tunebook.book.places import RunFolder
from tunebook.errors import UsageError
from tunebook.pages import sweep as pages
from tunebook.pages.table import cell_text
from tunebook.web.desk import desk_of
from tunebook.workflows import runs

router = APIRouter()


@router.get("/sweep")
def sweep(
    request: Request,
    filters: Annotated[list[str] | None, Query(alias="filter")] = None,
    by: str = "val_loss",
    columns: Annotated[list[str] | None, Query()] = None,
) -> Response:
    """Draw the runs that the filters leave over their settings."""
    if by not in pages.RESULTS:
        raise UsageError(f"runs cannot be drawn by `{by}`; there is {', '.join(pages.RESULTS)}")
    desk = desk_of(request)
    chosen = [text.strip() for text in filters or () if text.strip()]
    named = [name.strip() for text in columns or () for name in text.split(",") if name.strip()]
    asked = runs.Query(tuple(chosen), tuple(named))
    every = desk.shelf.summaries()
    rows = runs.choose_runs(list(every.values()), asked).rows

    def link(wanted: Sequence[str]) -> str:
        query = [("filter", text) for text in wanted] + [("by", by)]
        return "/sweep?" + urlencode(query + [("columns", name) for name in named])

    found = pages.draw_sweep(rows, by, named)
    return desk.page(
        request,
        "sweep.html",
        found=found,
        by=by,
        better=pages.better(by),
        results=pages.RESULTS,
        filters=[(text, link([one for one in chosen if one != text])) for text in chosen],
        more=lambda text: link([*chosen, text]),
        shown=[axis.key for axis in found.axes[:-1]],
        grades=pages.grades(found),
        importance=[_row(key, found) for key in found.varying],
        grids=[name for name in every if _has_grid(desk.shelf.book, name)],
        text=lambda value: cell_text(by, value),
        top=pages.TOP,
        bottom=pages.BOTTOM,
    )


def _row(key: str, found: pages.Sweep) -> dict[str, Any]:
    one = found.importance[key]
    return {
        "key": key,
        "measure": "rank correlation" if one.measure == "rank" else "share of variance",
        "strength": one.strength,
        "interval": one.interval,
        "text": pages.strength_text(one),
        "n": one.n,
        "told": one.told,
        "words": pages.importance_words(found, key),
    }


def _has_grid(book: Any, name: str) -> bool:
    return any(RunFolder(book, name).evaluations.glob("grid-*.json"))
