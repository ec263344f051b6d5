"""Runs over the settings in which they differ, and which of these go with the result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import PlainTextResponse, Response

from tunebook.errors import UsageError
from tunebook.pages import sweep as pages
from tunebook.pages.table import cell_text
from tunebook.web.desk import desk_of
from tunebook.workflows import runs

router = APIRouter()

PATIENCE_SECONDS = 2.0
LOADING = "what goes with the result is being worked out"


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
    measured = desk.shelf.measured()
    grids = desk.shelf.evaluated("grid-")
    ready = desk.statistics.ready(PATIENCE_SECONDS)

    def write() -> str:
        rows = runs.choose_runs([summary for summary, _ in measured.values()], asked).rows
        found = pages.draw_sweep(rows, by, named, importance=ready)
        return desk.render(
            request,
            "sweep.html",
            found=found,
            by=by,
            better=pages.better(by),
            results=pages.RESULTS,
            filters=[(text, _link([t for t in chosen if t != text], by, named)) for text in chosen],
            more=lambda text: _link([*chosen, text], by, named),
            shown=[axis.key for axis in found.axes[:-1]],
            grades=pages.grades(found),
            importance=[_row(key, found) for key in found.importance],
            ready=ready,
            grids=grids,
            text=lambda value: cell_text(by, value),
            top=pages.TOP,
            bottom=pages.BOTTOM,
        )

    key = "/sweep", tuple(chosen), by, tuple(named)
    return desk.kept_page(key, (measured, " ".join(grids), f"{ready}"), write)


@router.get("/sweep/ready")
def ready(request: Request) -> Response:
    """Say that what goes with the result is not known yet; once it is, the page loads again."""
    done = desk_of(request).statistics.ready(0)
    return PlainTextResponse(
        "" if done else LOADING, headers={"HX-Refresh": "true"} if done else {}
    )


def _link(filters: Sequence[str], by: str, columns: Sequence[str]) -> str:
    query = [("filter", text) for text in filters] + [("by", by)]
    return "/sweep?" + urlencode(query + [("columns", name) for name in columns])


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
