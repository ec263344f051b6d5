"""Which run comes from which, drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response

from tunebook.book.codec import dump_json
from tunebook.pages.lineage import edge_words, overridden, setting_words
from tunebook.pages.lineage_map import HEIGHT, MOST_LETTERS, MOST_SMALL_LETTERS, draw_lineage
from tunebook.pages.verdicts import found_in_short
from tunebook.records import RunSummary
from tunebook.units import format_number
from tunebook.web.desk import desk_of
from tunebook.workflows.lineage import BookLineage, book_lineage

router = APIRouter()

_KINDS = {"base": "base model", "missing": "not in this book"}


@router.get("/lineage")
def lineage(request: Request, run: str = "", edges: str = "") -> Response:
    """Draw the runs of the book, or what one comes from and what came from it."""
    desk = desk_of(request)
    measured = desk.shelf.measured()

    def write() -> str:
        found = _found(request, run)
        about = {node.name: _about(node.name, node.kind, found) for node in found.lineage.nodes}
        changes = {name: setting_words(overridden(s, found.runs)) for name, s in found.runs.items()}
        return desk.render(
            request,
            "lineage.html",
            run=run,
            every=edges == "all",
            names=sorted(found.runs),
            drawn=draw_lineage(found.lineage, changes, every_edge=edges == "all"),
            changes=changes,
            small_letters=MOST_SMALL_LETTERS,
            about=about,
            nodes=[about[name] for name in sorted(about, key=lambda n: _order(n, found.runs))],
            tree="\n".join(found.tree()),
            height=HEIGHT,
            letters=MOST_LETTERS,
        )

    return desk.kept_page(("/lineage", run, edges == "all"), (measured,), write)


@router.get("/lineage.json")
def lineage_json(request: Request, run: str = "") -> Response:
    """Give nodes and edges as `tunebook lineage --json` does."""
    text = dump_json(_found(request, run, whole=True).as_json(), indent=True)
    return Response(text, media_type="application/json")


@router.get("/lineage.mmd")
def lineage_mermaid(request: Request, run: str = "") -> Response:
    """Give the graph as Mermaid text."""
    return PlainTextResponse(_found(request, run, whole=True).mermaid())


def _found(request: Request, run: str, *, whole: bool = False) -> BookLineage:
    shelf = desk_of(request).shelf
    return book_lineage(shelf.book, run or None, shelf.summaries(whole=whole))


def _order(name: str, runs: Mapping[str, RunSummary]) -> tuple[bool, str, str]:
    run = runs.get(name)
    return run is None, (run and run.started) or "~", name


def _about(name: str, kind: str, found: BookLineage) -> dict[str, Any]:
    """Collect what a node shows and what is said of it."""
    run = found.runs.get(name)
    if run is None or kind != "run":
        said = _KINDS.get(kind, kind)
        return {"name": name, "kind": kind, "url": None, "line": said, "faults": [], "sure": False,
                "from": [], "text": f"{name}: {said}"}  # fmt: skip
    comes_from = [edge_words(edge, found.runs) for edge in found.lineage.parents(name)]
    loss = "" if run.val_loss is None else f"val_loss {format_number(run.val_loss)}"
    faults = [fault for fault in found_in_short(run) if fault != "no fault found"]
    words = (run.state, loss, ", ".join(found_in_short(run)), *comes_from, run.hypothesis or "")
    return {
        "name": name,
        "kind": kind,
        "url": f"/runs/{name}",
        "state": run.state,
        "loss": run.val_loss,
        "line": f"{run.state}" + (f" · {format_number(run.val_loss)}" if loss else ""),
        "faults": faults,
        "sure": any(not fault.endswith("?") for fault in faults),
        "from": comes_from,
        "text": f"{name}: " + "; ".join(word for word in words if word),
    }
