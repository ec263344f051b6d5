"""Show a run while it trains: a live view on a terminal, plain lines anywhere else."""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from tunebook.book.codec import to_record
from tunebook.book.step_totals import Pace, StepProfile, pace_of_records
from tunebook.kinds import FAULTS
from tunebook.pages.speed import Speed, measure_speed, speed_line
from tunebook.pages.verdicts import head_text, next_command, verdict_text
from tunebook.records import Diagnosis, StepRecord
from tunebook.terminal import console
from tunebook.units import format_bytes, format_number, format_seconds

if TYPE_CHECKING:
    from rich.text import Text

_VERDICTS_SHOWN = 4
_STYLES = {"amber": "yellow", "undecided": "magenta"}


class Viewer(Protocol):
    """Takes the events of a run."""

    def __call__(self, kind: str, payload: Mapping[str, Any]) -> None:
        """Show one event; ("tick", {}) comes while waiting."""

    def __enter__(self) -> Viewer:
        """Take the screen."""

    def __exit__(self, *_error: object) -> None:
        """Give the screen back."""


class Progress:
    """What the events of a run add up to so far."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.losses: list[float] = []
        self.validations: list[tuple[int, float]] = []
        self.total_steps = 0
        self.last: Mapping[str, Any] = {}
        self.clipped = self.count = 0
        self._recent: deque[StepRecord] = deque(maxlen=50)
        self.facts: dict[str, Any] = {}
        self.profiles: list[StepProfile] = []
        self.notes: list[str] = []
        self.state = "starting"
        self.run = ""
        self.diagnosis: Diagnosis | None = None
        self.news: list[str] = []  # what the last look at the log changed

    def add(self, kind: str, payload: Mapping[str, Any]) -> None:
        """Take one event in."""
        if kind == "facts":
            self.facts.update(payload)
            self.total_steps = payload.get("steps", self.total_steps)
            self.run = payload.get("run", self.run)
        elif kind == "profile":
            self.profiles.append(to_record(StepProfile, payload))
        elif kind == "step":
            self._add_step(payload)
        elif kind == "validation":
            self.validations.append((payload["step"], float(payload["loss"])))
        elif kind == "note":
            self.notes.append(payload["text"])
        elif kind == "verdicts":
            self._add_diagnosis(to_record(Diagnosis, payload))
        elif kind == "state":
            self.state = payload["state"]
            # A resumed run starts again after its checkpoint: what came later is superseded.
            first = payload.get("step")
            if self.state == "running" and first is not None:
                keep = sum(step <= first for step in self.steps)
                self.steps, self.losses = self.steps[:keep], self.losses[:keep]
                self.validations = [v for v in self.validations if v[0] <= first]
                if first == 0:
                    # The next part of a set, or a run that starts over.
                    self.validations, self.last, self.clipped, self.count = [], {}, 0, 0

    def _add_diagnosis(self, diagnosis: Diagnosis) -> None:
        before = () if self.diagnosis is None else self.diagnosis.verdicts
        self.diagnosis, self.news = diagnosis, []
        for verdict in diagnosis.verdicts:
            known = [old for old in before if old.meets(verdict)]
            if not known:
                self.news.append(f"verdict: {verdict_text(verdict)}")
            elif known[0].confidence == "amber" != verdict.confidence:
                self.news.append(f"confirmed: {verdict_text(verdict)}")
        for old in before:
            if not any(old.meets(verdict) for verdict in diagnosis.verdicts):
                self.news.append(f"withdrawn: {head_text(old)}")

    def next_lines(self) -> list[str]:
        """Say what to do about each fault that was found in the end."""
        lines = []
        for verdict in self.diagnosis.verdicts if self.diagnosis and self.diagnosis.final else ():
            if verdict.kind in FAULTS:
                lines.append(f"next for {verdict.kind}: {verdict.next_action}")
                if command := next_command(self.run, verdict):
                    lines.append(f"  {command}")
        return lines

    def _add_step(self, payload: Mapping[str, Any]) -> None:
        self.last = payload
        self.steps.append(payload["step"])
        self.losses.append(float(payload["loss"]))  # NaN and Infinity come as words
        self.count += 1
        self.clipped += bool(payload["clipped"])
        self._recent.append(to_record(StepRecord, {**payload, "examples": []}))

    def speed(self) -> Speed:
        """Work out how fast recent steps were, and what bounds the run."""
        return measure_speed(self._pace(), self.facts, self.profiles)

    def _pace(self) -> Pace:
        return pace_of_records(self._recent, {profile.step for profile in self.profiles})

    def figures(self) -> str:
        """Write the state of the run as one line."""
        if not self.last:
            return self.notes[-1] if self.notes else self.state
        pace, speed = self._pace(), self.speed()
        per_step = pace.seconds / max(pace.steps, 1)
        step = self.last["step"]
        parts = [
            f"step {step}/{self.total_steps}",
            f"loss {format_number(float(self.last['loss']))}",
            f"lr {self.last['learning_rate']:.2e}",
            f"grad {format_number(float(self.last['grad_norm']), 3)}",
            f"clipped {self.clipped / self.count:.0%}",
        ]
        if self.validations:
            val = self.validations[-1][1]
            parts.append(f"val {format_number(val)} (ppl {format_number(_exp(val), 3)})")
        rates = (speed.tokens_per_second, "tok/s"), (speed.target_tokens_per_second, "target tok/s")
        parts += [f"{rate or 0:,.0f} {unit}" for rate, unit in rates]
        if self.last.get("memory_bytes"):
            parts.append(format_bytes(self.last["memory_bytes"]))
        parts.append(f"ETA {format_seconds(per_step * max(self.total_steps - step, 0))}")
        return "  ".join(parts)


class PlainView:
    """One line per validation, note and tenth of the run; for pipes and logs."""

    def __init__(self, interval_seconds: float = 10.0) -> None:
        self._progress = Progress()
        self._interval = interval_seconds
        self._next = 0.0

    def __enter__(self) -> PlainView:
        return self

    def __exit__(self, *_error: object) -> None:
        for line in [*self._speed(), *self._progress.next_lines()]:
            self._say(line)

    def __call__(self, kind: str, payload: Mapping[str, Any]) -> None:
        """Print a line when there is something new to say."""
        self._progress.add(kind, payload)
        if kind == "note":
            self._say(self._progress.notes[-1])
        elif kind == "verdicts":
            for line in self._progress.news:
                self._say(line)
        elif kind == "profile":
            for line in self._speed():
                self._say(line)
        elif kind == "validation":
            low, high = payload.get("interval") or (math.nan, math.nan)
            span = "" if math.isnan(low) else f" [{low:.3f}, {high:.3f}]"
            loss = float(payload["loss"])
            self._say(
                f"validation at step {payload['step']}: loss {format_number(loss)}{span}, "
                f"perplexity {format_number(_exp(loss))}"
            )
        elif kind == "step" and self._due(payload):
            self._say(self._progress.figures())

    def _speed(self) -> list[str]:
        line = speed_line(self._progress.speed())
        return [f"speed: {line}"] if line else []

    def _due(self, payload: Mapping[str, Any]) -> bool:
        now = time.monotonic()
        if payload["step"] == self._progress.total_steps or now >= self._next:
            self._next = now + self._interval
            return True
        return False

    def _say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


class LiveView:
    """The loss curve in braille with the figures below it, redrawn in place."""

    def __init__(self) -> None:
        # rich is only needed on a terminal.
        from rich.live import Live

        self._progress = Progress()
        self._console = console(stderr=True)
        self._live = Live(console=self._console, auto_refresh=False, transient=False)
        self._drawn = 0.0

    def __enter__(self) -> LiveView:
        self._live.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._draw()
        self._live.stop()
        for line in self._progress.next_lines():
            self._console.print(line, highlight=False, soft_wrap=True)

    def __call__(self, kind: str, payload: Mapping[str, Any]) -> None:
        """Take an event in and redraw at most four times a second."""
        self._progress.add(kind, payload)
        if time.monotonic() - self._drawn > 0.25:
            self._draw()

    def _draw(self) -> None:
        from rich.console import Group
        from rich.text import Text

        from tunebook.pages.curve import draw_curve

        self._drawn = time.monotonic()
        progress = self._progress
        parts = []
        if len(progress.steps) > 1:
            width = min(self._console.width - 2, 100)
            parts.append(
                Text(
                    draw_curve(
                        progress.steps,
                        progress.losses,
                        progress.validations,
                        width=width,
                        height=min(16, max(8, self._console.height - 8)),
                    )
                )
            )
        parts += [Text(note, style="dim") for note in progress.notes[-3:]]
        parts += self._verdicts()
        parts.append(Text(progress.figures(), style="bold"))
        if line := speed_line(progress.speed()):
            parts.append(Text(line, style="dim"))
        self._live.update(Group(*parts), refresh=True)

    def _verdicts(self) -> list[Text]:
        from rich.text import Text

        diagnosis = self._progress.diagnosis
        found = () if diagnosis is None else diagnosis.verdicts
        lines = [
            Text(verdict_text(v), style=_STYLES.get(v.confidence, "bold red"))
            if v.kind in FAULTS
            else Text(verdict_text(v), style="green" if v.kind == "no_fault_found" else "")
            for v in found
        ]
        gone = [news for news in self._progress.news if news.startswith("withdrawn")]
        return [*lines[-_VERDICTS_SHOWN:], *(Text(news, style="dim") for news in gone)]


def make_view() -> Viewer:
    """Choose the live view on a terminal and plain lines elsewhere."""
    return LiveView() if sys.stderr.isatty() else PlainView()


def _exp(loss: float) -> float:
    return math.exp(loss) if loss < 700 else math.inf
