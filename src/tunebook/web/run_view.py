"""What the page of a run shows, put together from what was read once; nothing here reads steps.

A run that is damaged is shown as far as it can be read, and what is wrong is said in its place.
"""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tunebook.book.checkpoints import best_step, checkpoint_step, list_checkpoints
from tunebook.book.data_account import read_data
from tunebook.book.diagnosis import whole_diagnosis
from tunebook.book.evaluations import read_results
from tunebook.book.events import Events, event_files
from tunebook.book.lineage import Edge, Lineage, build_lineage
from tunebook.book.places import RunFolder
from tunebook.book.plans import read_plan
from tunebook.book.predictions import count_outcomes
from tunebook.book.reader import Look
from tunebook.book.replays import read_replays
from tunebook.book.run_file import config_parent, read_own_yaml, weight_parent
from tunebook.book.seal import Seal, read_seal
from tunebook.book.step_totals import StepTotals, Work
from tunebook.book.summary import OVER, Measured, bring_to_life, measure, score_all
from tunebook.errors import BookError, TunebookError
from tunebook.kinds import KINDS
from tunebook.pages.evaluations import write_evaluations
from tunebook.pages.facts import write_facts
from tunebook.pages.lineage import edge_words
from tunebook.pages.probes import write_probes
from tunebook.pages.replays import write_replays
from tunebook.pages.run_account import write_account
from tunebook.pages.run_mixture import write_part
from tunebook.pages.run_plan import write_plan
from tunebook.pages.run_result import work_words, write_validations
from tunebook.pages.run_setup import (
    Setting,
    list_settings,
    write_checkpoints,
    write_machine,
    write_releases,
)
from tunebook.pages.speed import speed_of_look, write_speed
from tunebook.pages.verdicts import (
    blind_lines,
    evidence_rows,
    head_text,
    level_of,
    next_command,
    quiet_kinds,
    where_text,
)
from tunebook.records import Diagnosis, Evaluation, Outcome, RunSummary, Sample, Verdict
from tunebook.web.shelf import Shelf

SHOWN_FILES = ("run.yaml", "resolved.yaml", "train.log")
"""Files of a run that the page opens as text."""
_RECENT = 50
_GOES_ON = re.compile(r"; `tunebook resume [^`]*` goes on[^;`]*\Z")
_SILENT_SECONDS = 30
_KILLED = (
    "it ended without saying why, as a process that is killed does; resuming goes on from the "
    "newest checkpoint"
)


@dataclass(frozen=True, slots=True)
class Card:
    """A verdict as it is shown; `near` is the range of steps that its link zooms to."""

    kind: str
    level: str
    meaning: str
    where: str
    confidence: str
    cause: str
    evidence: list[tuple[str, str]]
    next_action: str
    command: str | None
    near: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt with what the model wrote for it: at the ends, and between them."""

    prompt: str
    ends: list[Sample]
    between: list[Sample]
    reference: str | None


def _without_events(run: RunFolder) -> Measured:
    try:
        return measure(run, (Events(), StepTotals()))
    except TunebookError:
        raise
    except Exception as error:
        raise BookError(
            f"run {run.name} cannot be read ({type(error).__name__}: {error}); restore its files"
        ) from error


class RunView:
    """One run as its page shows it; `damage` says what cannot be read of its events."""

    def __init__(self, shelf: Shelf, name: str):
        reader = shelf.reader(name)
        self.run: RunFolder = reader.run
        self.name = name
        self.damage: str | None = None
        self.look: Look | None = None
        known = shelf.measured()
        self.runs: dict[str, RunSummary] = {other: s for other, (s, _) in known.items()}
        self._shelf, self._listed = shelf, self.runs.get(name)
        measured = known[name][1] if name in known else None
        try:
            self.look = reader.look()
            if measured is None or not (measured.read and measured.started):
                # It may wait its turn to be read (again), and this page lets write over what it
                # shows of a run that has not begun: that must be what its file says now.
                measured = measure(self.run, self.look.totals())
        except Exception as error:
            # The index hides a damaged run; its own page must say so.
            told = isinstance(error, TunebookError)
            self.damage = str(error) if told else f"{type(error).__name__}: {error}"
            measured = _without_events(self.run)
        self.summary: RunSummary = bring_to_life(self.run, measured)
        self.runs[name] = self.summary
        self.outcomes: list[Outcome] = score_all(measured.predictions, self.summary, self.runs.get)

    # --- live -----------------------------------------------------------------------------------

    @property
    def events(self) -> Events:
        """Everything but the steps."""
        return self.look.events if self.look is not None else Events()

    @property
    def is_over(self) -> bool:
        """Whether predictions are scored for good."""
        return self.summary.state in OVER

    @property
    def outcome(self) -> str | None:
        """How many predictions held, once that can be said."""
        return count_outcomes(self.outcomes) if self.is_over else None

    @property
    def work(self) -> Work:
        """What the steps took together."""
        return self.look.steps.work() if self.look is not None else Work()

    def seconds_left(self) -> float | None:
        """Estimate how long a running run will take, by its latest steps; None where unknown."""
        summary = self.summary
        left = (summary.steps or 0) - (summary.step or 0)
        if summary.state != "running" or self.look is None or left <= 0:
            return None
        took = self.look.steps["seconds"][-_RECENT:]
        if not np.isfinite(took).any():
            return None
        return float(np.nanmedian(took)) * left

    def silent_seconds(self) -> float | None:
        """Say for how long a running run has written nothing, where that is long."""
        if self.summary.state != "running":
            return None
        newest = max((path.stat().st_mtime for path in self._logs()), default=None)
        silent = 0.0 if newest is None else time.time() - newest
        return silent if silent > _SILENT_SECONDS else None

    def last_loss(self) -> float | None:
        """Give the training loss of the newest step."""
        steps = self.look.steps if self.look is not None else None
        return float(steps["loss"][-1]) if steps is not None and len(steps) else None

    @property
    def reason(self) -> str | None:
        """Why the run is not running any more, as far as it is written down."""
        states = self.events.states
        last = states[-1] if states else {}
        if self.summary.state == "paused" and last.get("state") in (None, "running"):
            return None if self.damage else _KILLED
        told = str(last.get("reason") or "")
        if self.summary.state == "paused" and not self.damage:
            told = _GOES_ON.sub("", told)  # the page says so itself, as a command to copy
        return told if told and self.summary.state not in ("running", "finished") else None

    @property
    def sealed(self) -> Seal | None:
        """What was expected, as it was sealed."""
        return read_seal(self.run)

    def cards(self) -> list[Card]:
        """List what was found, in the run and by its evaluations."""
        found = self.diagnosis.verdicts
        return [self._card(one) for one in found if one.kind != "no_fault_found"]

    @functools.cached_property
    def diagnosis(self) -> Diagnosis:
        """What is known of the run when all is put together."""
        return whole_diagnosis(self.run, self.events.diagnosis)

    def _card(self, verdict: Verdict) -> Card:
        near = None
        if verdict.step is not None:
            last = verdict.last_step or verdict.step
            margin = max((last - verdict.step) // 2, 10)
            near = max(verdict.step - margin, 0), last + margin
        kind = KINDS.get(verdict.kind)
        return Card(
            verdict.kind,
            level_of(verdict),
            kind.meaning if kind is not None else "",
            where_text(verdict),
            verdict.confidence,
            verdict.cause,
            evidence_rows(verdict),
            verdict.next_action,
            next_command(self.name, verdict),
            near,
        )

    @property
    def no_fault(self) -> str | None:
        """What is said where nothing was found."""
        found = [v for v in self.diagnosis.verdicts if v.kind == "no_fault_found"]
        return f"{head_text(found[0])}: {found[0].cause}" if found else None

    @property
    def quiet(self) -> list[str]:
        """What was looked for in the whole log and not found."""
        return quiet_kinds(self.diagnosis) if self.diagnosis.final else []

    @property
    def blind(self) -> list[str]:
        """What could not be looked for, and why."""
        return blind_lines(self.events.diagnosis)

    def prompts(self) -> list[Prompt]:
        """Group samples by their prompt, in the order of steps."""
        grouped: dict[str, list[Sample]] = {}
        for sample in self.events.samples:
            grouped.setdefault(sample.prompt, []).append(sample)
        found = []
        for prompt, samples in grouped.items():
            ordered = sorted(samples, key=lambda one: one.step)
            ends = ordered if len(ordered) < 3 else [ordered[0], ordered[-1]]
            reference = next((s.reference for s in ordered if s.reference is not None), None)
            found.append(Prompt(prompt, ends, ordered[1:-1][::-1], reference))
        return found

    @property
    def newest_checkpoint(self) -> int | None:
        """The step of the newest checkpoint that is on disk."""
        found = list_checkpoints(self.run)
        return checkpoint_step(found[-1]) if found else None

    @property
    def best_checkpoint(self) -> int | None:
        """The step of the checkpoint with the lowest held-out loss."""
        return best_step(self.run)

    # --- what does not change every second --------------------------------------------------------

    @functools.cached_property
    def results(self) -> list[Evaluation]:
        """What evaluations came to."""
        return read_results(self.run)

    @functools.cached_property
    def environment(self) -> Mapping[str, Any]:
        """What `resolved.yaml` says beside the recipe."""
        found = read_own_yaml(self.run, self.run.resolved_yaml).get("environment")
        return found if isinstance(found, Mapping) else {}

    @functools.cached_property
    def data(self) -> Mapping[str, Any]:
        """Where every row of every source went."""
        return read_data(self.run)

    @property
    def mixes(self) -> bool:
        """Whether it was trained on more than one source."""
        shares = self.data.get("mixture")
        return isinstance(shares, list) and len(shares) > 1

    @property
    def imported(self) -> Mapping[str, Any]:
        """What the run was imported from; empty for one of this book's own."""
        found = self.environment.get("imported")
        return found if isinstance(found, Mapping) else {}

    @property
    def weights_of(self) -> tuple[str, str | None] | None:
        """The run whose weights it started from."""
        return weight_parent(self.summary.model)

    @property
    def parent(self) -> RunSummary | None:
        """The run whose settings it extends."""
        name = config_parent(self.summary.config)
        return self.runs.get(name) if name and name != self.name else None

    @functools.cached_property
    def lineage(self) -> Lineage:
        """Where all runs of the book come from."""
        # This one may have been read later than the others.
        if self._listed and self._listed.config == self.summary.config:
            return self._shelf.lineage()
        return build_lineage(self.run.book, self.runs.values())

    def comes_from(self) -> list[tuple[Edge, str]]:
        """List what the run comes from, in words."""
        return [(edge, edge_words(edge, self.runs)) for edge in self.lineage.parents(self.name)]

    def children(self) -> list[str]:
        """List the runs that come from this one."""
        return sorted({edge.child for edge in self.lineage.edges if edge.parent == self.name})

    def settings(self) -> list[Setting]:
        """List every setting, with where it comes from."""
        inherited = self.environment.get("inherited")
        inherited = inherited if isinstance(inherited, Mapping) else {}
        return list_settings(self.summary, inherited, self.parent)

    def first_batch(self) -> list[tuple[str, str]]:
        """Give the first rows as the model saw them, with their names."""
        rows = self.events.fact("first_batch")
        rows = rows if isinstance(rows, list) else []
        return [(str(r.get("example")), str(r.get("text"))) for r in rows if isinstance(r, dict)]

    def files(self) -> list[tuple[str, int, bool]]:
        """List the files of the run's folder with sizes, and whether the page opens them."""
        found = [(p.name, p.stat().st_size) for p in self.run.path.iterdir() if p.is_file()]
        found += [(f"events/{p.name}", p.stat().st_size) for p in self._logs()]
        return [(name, size, name in SHOWN_FILES) for name, size in sorted(found) if name[0] != "."]

    def _logs(self) -> list[Path]:
        try:
            return event_files(self.run)
        except TunebookError:
            return []  # as `damage` says

    def links(self) -> list[tuple[str, str]]:
        """List the pages that show evaluations of this run at length."""
        kinds = {one.kind for one in self.results}
        other = self.parent.name if self.parent else (self.weights_of or (None,))[0]
        found = [("Side by side with its base", f"/side?run={self.name}/base&run={self.name}")]
        if other in self.runs:
            both = f"run={other}&run={self.name}"
            found = [
                (f"Compare with {other}", f"/compare?{both}"),
                (f"Side by side with {other}", f"/side?{both}"),
            ]
        if "grid" in kinds:
            found.append(("Sampling grid", f"/grid/{self.name}"))
        if any(kind.startswith("chess") for kind in kinds):
            found.append(("Chess", f"/chess?run={self.name}"))
        return found

    def body(self, part: str) -> str:
        """Write a part of the page as Markdown without its heading; empty where there is none."""
        write: dict[str, Callable[[], str]] = {
            "validations": lambda: write_validations(self.events.validations),
            "speed": lambda: "" if self.look is None else write_speed(speed_of_look(self.look)),
            "work": lambda: work_words(self.work),
            "plan": lambda: write_plan(read_plan(self.run), self.events),
            "machine": lambda: write_machine(self.events, self.environment, self.work),
            "checkpoints": lambda: write_checkpoints(self.run, self.summary),
            "releases": lambda: write_releases(self.run),
            "account": lambda: write_account(self.data),
            "part": lambda: write_part(self.data, self.environment),
            "evaluations": lambda: write_evaluations(self.results),
            "probes": lambda: write_probes(self.results),
            "facts": lambda: write_facts(self.results),
            "replays": lambda: write_replays(read_replays(self.run)),
        }
        try:
            text = write[part]()
        except (TunebookError, AttributeError, KeyError, TypeError, ValueError) as error:
            return f"This part of the run's files cannot be read ({type(error).__name__}: {error})."
        return text.partition("\n")[2] if text.startswith("## ") else text
