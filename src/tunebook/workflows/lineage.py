"""Where the runs of a book come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunebook.book.index import run_summaries
from tunebook.book.lineage import Lineage, build_lineage
from tunebook.book.places import open_run
from tunebook.pages.lineage import mermaid, overridden, tree_lines
from tunebook.records import RunSummary


@dataclass(frozen=True, slots=True)
class BookLineage:
    """The lineage of a book, or of what is linked to one run, with the summaries of its runs."""

    lineage: Lineage
    runs: Mapping[str, RunSummary]

    def tree(self, width: int | None = None) -> list[str]:
        """Draw it as lines for a terminal of that width; None folds nothing."""
        return tree_lines(self.lineage, self.runs, width)

    def mermaid(self) -> str:
        """Write it as Mermaid text."""
        return mermaid(self.lineage)

    def as_json(self) -> dict[str, Any]:
        """Give nodes and edges as scripts read them."""
        return {
            "nodes": [self._node(node.name, node.kind) for node in self.lineage.nodes],
            "edges": [
                {"from": edge.parent, "to": edge.child, "kind": edge.kind, "which": edge.which}
                for edge in self.lineage.edges
            ],
        }

    def _node(self, name: str, kind: str) -> dict[str, Any]:
        run = self.runs.get(name)
        if run is None:
            return {"name": name, "kind": kind}
        facts = {key: getattr(run, key) for key in ("state", "model", "stage", "method")}
        return {"name": name, "kind": kind, **facts, "overrides": overridden(run, self.runs)}


def book_lineage(
    book: Path, name: str | None = None, runs: Mapping[str, RunSummary] | None = None
) -> BookLineage:
    """Read the lineage of a book, or of one run; BookError when there is none of that name.

    `runs` are the summaries of the book by name, where the caller has them already.
    """
    if runs is None:
        runs = {run.name: run for run in run_summaries(book)}
    lineage = build_lineage(book, runs.values())
    if name is not None:
        lineage = lineage.around(open_run(book, name).name)
    return BookLineage(lineage, runs)
