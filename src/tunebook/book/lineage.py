"""Where the runs of a book come from: weights, settings, and runs that went on as others."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from tunebook.book.inside import read_text_inside
from tunebook.book.places import RunFolder, left_out_runs, list_runs
from tunebook.book.run_file import config_parent, weight_parent
from tunebook.records import RunSummary
from tunebook.regular import open_regular

_RUN_FILE_BYTES = 4 * 2**20  # a run file of more than one mebibyte is refused

EdgeKind = Literal["weights", "config", "resume"]


@dataclass(frozen=True, slots=True)
class Node:
    """A run, or a model that no run of this book made (`kind` base, or missing for a lost run)."""

    name: str
    kind: Literal["run", "base", "missing"]


@dataclass(frozen=True, slots=True)
class Edge:
    """How a run comes from a node: its weights, its settings, or going on with it as a fork.

    `which` is the part of a run's weights: best, step-600; None for its final ones. `of_base` tells
    that the parent is a model and no run.
    """

    parent: str
    child: str
    kind: EdgeKind
    which: str | None = None
    of_base: bool = False


@dataclass(frozen=True)
class Lineage:
    """All runs of a book with what they come from."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]

    def parents(self, name: str) -> Sequence[Edge]:
        """List the edges that lead to a run."""
        return self._by_child.get(name, ())

    def children(self, name: str) -> Sequence[Edge]:
        """List the edges that lead away from a run."""
        return self._by_parent.get(name, ())

    def kind_of(self, name: str) -> str:
        """Say what kind of a node has a name."""
        return self._kinds[name]

    # Every run is asked for: a search for each would take the square of their number.
    @cached_property
    def _by_child(self) -> dict[str, list[Edge]]:
        found: dict[str, list[Edge]] = {}
        for edge in self.edges:
            found.setdefault(edge.child, []).append(edge)
        return found

    @cached_property
    def _by_parent(self) -> dict[str, list[Edge]]:
        found: dict[str, list[Edge]] = {}
        for edge in self.edges:
            found.setdefault(edge.parent, []).append(edge)
        return found

    @cached_property
    def _kinds(self) -> dict[str, str]:
        return {node.name: node.kind for node in self.nodes}

    def around(self, name: str) -> Lineage:
        """Keep a run with all it comes from and all that comes from it."""
        kept = self._reach({name}, up=True) | self._reach({name}, up=False)
        edges = tuple(e for e in self.edges if e.parent in kept and e.child in kept)
        return Lineage(tuple(n for n in self.nodes if n.name in kept), edges)

    def _reach(self, found: set[str], *, up: bool) -> set[str]:
        beyond: dict[str, list[str]] = {}
        for edge in self.edges:
            here, there = (edge.child, edge.parent) if up else (edge.parent, edge.child)
            beyond.setdefault(here, []).append(there)
        found, left = set(found), list(found)
        while left:
            new = [name for name in beyond.get(left.pop(), ()) if name not in found]
            found.update(new)
            left += new
        return found


def build_lineage(book: Path, runs: Iterable[RunSummary]) -> Lineage:
    """Build the lineage of a book from the summaries of its runs."""
    runs = list(runs)
    nodes = {run.name: Node(run.name, "run") for run in runs}
    edges = [edge for run in runs for edge in _edges_to(book, run)]
    for edge in edges:
        nodes.setdefault(edge.parent, Node(edge.parent, "base" if edge.of_base else "missing"))
    return Lineage(tuple(nodes.values()), tuple(edges))


def _edges_to(book: Path, run: RunSummary) -> list[Edge]:
    edges = []
    parent = weight_parent(run.model)
    if parent is not None:
        kind: EdgeKind = "weights"
        if parent[1] and parent[1].startswith("step-"):
            kind = "resume" if _is_fork(RunFolder(book, run.name)) else "weights"
        edges.append(Edge(parent[0], run.name, kind, parent[1]))
    elif run.model is not None:
        edges.append(Edge(run.model, run.name, "weights", of_base=True))
    settings = config_parent(run.config)
    if settings is not None and settings != run.name:
        edges.append(Edge(settings, run.name, "config"))
    return edges


def _is_fork(run: RunFolder) -> bool:
    # As text: every page of a book asks for all forks, and YAML takes its time.
    try:
        text = read_text_inside(run.book, run.resolved_yaml)
    except OSError:
        return False
    return "\n  resumed_from:\n" in text


def steps_started_from(run: RunFolder) -> set[int]:
    """Find the checkpoints of a run that other runs of its book started from.

    Read as text, so that no file is too broken to protect the weights it names. Nor need that run
    be part of the book: one that is only linked loses its parent's weights as any other would.
    """
    name = re.escape(run.name)
    named = re.compile(rf"(?:run:{name}|(?<![\w.-]){name}/checkpoints)/step-(\d+)")
    steps: set[int] = set()
    for other in (*list_runs(run.book), *left_out_runs(run.book)):
        for path in (other.run_yaml, other.resolved_yaml) if other != run else ():
            try:
                with open_regular(path) as file:
                    text = file.read(_RUN_FILE_BYTES).decode("utf-8", "replace")
            except OSError:
                continue
            steps |= {int(found) for found in named.findall(text)}
    return steps
