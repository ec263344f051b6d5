"""Comparisons of runs, kept as long as their files stay: a pair of 1,000 items takes half a second.

What is slow imports scipy, which is why it is imported when it is first asked for.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunebook.book.evaluations import read_results
from tunebook.book.places import open_run
from tunebook.book.reader import Look
from tunebook.errors import UsageError
from tunebook.records import Evaluation
from tunebook.web.shelf import Shelf
from tunebook.workflows.compare_sides import command_for, split_name
from tunebook.workflows.versus_runs import Assumed, Versus, versus

if TYPE_CHECKING:
    from tunebook.workflows.compare_runs import RunsCompared

KEPT = 128
MOST_COMPARED = 10
"""Ten runs are 45 pairs."""
LAST_VALIDATION = "val_loss"
"""The `KIND` of `compare_validations`, which imports scipy."""
_FIRST = ("loss", "judge", "pairs", "chess", "chess-puzzles", "chess-games")


@dataclass(frozen=True, slots=True)
class Asked:
    """Which comparison: names as `tunebook compare` takes them, and its options."""

    names: tuple[str, ...]
    kind: str
    margin: float | None = None
    shared_only: bool = False
    sort: str | None = None


class Comparisons:
    """Comparisons made so far; one is made at a time, so that pages are answered beside it."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._kept: OrderedDict[object, RunsCompared] = OrderedDict()
        self._causes: OrderedDict[object, Versus] = OrderedDict()
        self._lock = threading.Lock()

    def known(self, asked: Asked) -> RunsCompared | None:
        """Give what was compared before, of the same files."""
        return self._kept.get((asked, self._stamp(asked)))

    def compare(self, asked: Asked) -> RunsCompared:
        """Compare, raising as `compare_runs` does where that cannot be."""
        if len(asked.names) > MOST_COMPARED:
            raise UsageError(
                f"{len(asked.names)} runs are too many to compare in pairs; name at most "
                f"{MOST_COMPARED}"
            )
        with self._lock:
            key = asked, self._stamp(asked)
            if (found := self._kept.get(key)) is None:
                self._kept[key] = found = self._make(asked)
                while len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
            return found

    def causes(self, name: str, against: str) -> Versus:
        """Hold a run against another; UsageError while one of them goes on.

        Both logs are read whole, which a run that goes on would ask for at every step.
        """
        known = self._shelf.summaries()
        for one in (name, against):
            if one in known and known[one].state == "running":
                raise UsageError(f"{one} is being trained; causes are looked for when it is over")
        with self._lock:
            key = name, against, *(self._shelf.look(one).version for one in (name, against))
            key = *key, *(repr(known[one]) for one in (name, against))
            if (found := self._causes.get(key)) is None:
                self._causes[key] = found = versus(self._shelf.book, name, against, Assumed())
                while len(self._causes) > KEPT:
                    self._causes.popitem(last=False)
            return found

    def kinds(self, names: Sequence[str]) -> dict[str, list[str]]:
        """Name what two or more were evaluated for, and which of them."""
        found: dict[str, list[str]] = {}
        for name in names:
            for kind in sorted({one.kind for one in self._results(name)}):
                found.setdefault(kind, []).append(name)
        if not found.get("loss") or len(found["loss"]) < 2:
            found[LAST_VALIDATION] = self.validated(names)
        ordered = [*_FIRST, LAST_VALIDATION, *sorted(k for k in found if k[:8] == "harness:")]
        return {kind: found[kind] for kind in ordered if len(found.get(kind, ())) > 1}

    def validated(self, names: Iterable[str]) -> list[str]:
        """Name those that were validated while they trained; the last weights, not others."""
        return [
            name
            for name in names
            if split_name(name)[1:] == ("final", None, None)
            and self._shelf.look(name).events.validations
        ]

    def commands(self, names: Iterable[str]) -> list[str]:
        """Give the commands that evaluate those that were not."""
        runs = dict.fromkeys(
            split_name(name)[0]
            for name in names
            if not any(one.kind == "loss" for one in self._results(name))
        )
        return [command_for("loss", run) for run in runs]

    def _results(self, name: str) -> list[Evaluation]:
        run, weights, *_ = split_name(name)
        found = read_results(open_run(self._shelf.book, run))
        return [one for one in found if one.subject == weights]

    def _make(self, asked: Asked) -> RunsCompared:
        if asked.kind == LAST_VALIDATION:
            from tunebook.workflows.compare_validations import compare_validations

            looks = {name: self._shelf.look(name).events for name in asked.names}
            return compare_validations({n: look.validations[-1] for n, look in looks.items()})
        from tunebook.workflows.compare_runs import compare_runs

        return compare_runs(
            asked.names,
            self._shelf.book,
            kind=asked.kind,
            margin=asked.margin,
            shared_only=asked.shared_only,
            sort=asked.sort,
        )

    def _stamp(self, asked: Asked) -> object:
        """Tell whether anything that decides a comparison was written since."""
        runs = [open_run(self._shelf.book, split_name(name)[0]) for name in asked.names]
        if asked.kind == LAST_VALIDATION:
            looks = [self._shelf.look(run.name) for run in runs]
            # Steps that were taken back took validations with them: as many need not be the same.
            return tuple((look.generation, _last_of(look)) for look in looks)
        files = [
            path
            for run in runs
            for path in (run.resolved_yaml, run.final, run.best, *run.evaluations.glob("*.json*"))
            if path.exists()
        ]
        return frozenset((str(p), p.stat().st_mtime_ns, p.stat().st_size) for p in files)


def _last_of(look: Look) -> object:
    taken = look.events.validations
    return len(taken), *((v.step, repr(v.loss), v.examples_hash) for v in taken[-1:])
