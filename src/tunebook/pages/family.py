"""What the page of one run asks of the other runs of its book."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tunebook.book.lineage import Lineage, build_lineage
from tunebook.book.run_file import config_parent
from tunebook.records import RunSummary

FAMILY_SIZE = 10


@dataclass(frozen=True, slots=True)
class WholeBook:
    """All runs of a book, and what links them: made once for all pages.

    `links` has the neighbours of each run in order of their names, see `link_runs`.
    """

    runs: Mapping[str, RunSummary]
    links: Mapping[str, Sequence[str]]
    lineage: Lineage


def whole_book(book: Path, runs: Mapping[str, RunSummary]) -> WholeBook:
    """Link the runs of a book, given by name.

    The links and the lineage are made of settings and of the models that runs started from; how a
    run goes or ended changes neither.
    """
    return WholeBook(runs, link_runs(runs), build_lineage(book, runs.values()))


class AskedRuns(Mapping[str, RunSummary]):
    """The runs of a book as the page of one of them sees them; it remembers which it asked for.

    `asked` has also the names of runs that are not there. `listed` tells that all were gone
    through, so that the page may say something of each.
    """

    def __init__(self, runs: Mapping[str, RunSummary], own: RunSummary, asked: Iterable[str] = ()):
        self._runs = runs
        self._own = own
        self.asked: dict[str, None] = dict.fromkeys((own.name, *asked))
        self.listed = False

    def __getitem__(self, name: str) -> RunSummary:
        self.asked[name] = None
        return self._own if name == self._own.name else self._runs[name]

    def __iter__(self) -> Iterator[str]:
        self.listed = True
        return iter({**self._runs, self._own.name: self._own})

    def __len__(self) -> int:
        self.listed = True
        return len(self._runs.keys() | {self._own.name})


def link_runs(runs: Mapping[str, RunSummary]) -> dict[str, Sequence[str]]:
    """List for each run those that it extends or starts from, and those that do so with it."""
    links: dict[str, set[str]] = {name: set() for name in runs}
    for name, other in runs.items():
        parent = config_parent(other.config)
        for near in (*other.parents, parent) if parent else other.parents:
            if near in runs and near != name:
                links[name].add(near)
                links[near].add(name)
    return {name: sorted(near) for name, near in links.items()}


def family_names(name: str, links: Mapping[str, Sequence[str]]) -> list[str]:
    """Name the runs linked to a run, itself first, the nearest before those farther off."""
    found: list[str] = [name]
    frontier: Iterable[str] = found
    while frontier and len(found) < FAMILY_SIZE:
        # The first ten of each suffice: of a run that a whole sweep extends, there are thousands.
        near = {n for one in frontier for n in links.get(one, ())[:FAMILY_SIZE]}
        frontier = sorted(near - set(found))[: FAMILY_SIZE - len(found)]
        found += frontier
    return found


def find_family(
    summary: RunSummary,
    runs: Mapping[str, RunSummary],
    links: Mapping[str, Sequence[str]] | None = None,
) -> list[RunSummary]:
    """Collect the runs linked to a run by what they extend or start from, oldest first.

    `links` are those of `link_runs`, where a caller has them.
    """
    links = link_runs(runs) if links is None else links
    members = [runs[name] for name in family_names(summary.name, links)]
    return sorted(members, key=lambda member: (member.started or "~", member.name))
