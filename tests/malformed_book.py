"""A book in which every run has one file that another hand or release could have left."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from made_chess import even_grid, make_chess, make_grid
from made_evaluations import make_answers
from made_runs import make_plan, make_run
from tunebook.book.evaluations import write_result
from tunebook.book.places import RunFolder
from tunebook.records import Evaluation

Harm = Callable[[RunFolder], object]


def result_of(
    kind: str, details: Any = None, settings: Any = None, subject: str = "final", **changed: Any
) -> Harm:
    """Write an evaluation with such details."""
    fields = {"score": 0.5, "interval": (0.4, 0.6)} | changed

    def harm(run: RunFolder) -> None:
        run.evaluations.mkdir(exist_ok=True)
        log = run.evaluations / f"{kind}-{subject}-00000001.jsonl"
        made = Evaluation(kind=kind, subject=subject, unit="points", n=3, missing=0,
                          examples_hash="h", settings={} if settings is None else settings,
                          details={} if details is None else details, **fields)  # fmt: skip
        write_result(run, log, made)

    return harm


def _answers(line: dict[str, Any]) -> Harm:
    return lambda run: make_answers(run, ["yes", "no"], lines=[line, {}])


def _event(said: dict[str, Any]) -> Harm:
    line = json.dumps({"seq": 999, "attempt": 1, "time": "2026-01-01T00:00:00Z", **said})

    def harm(run: RunFolder) -> None:
        with open(next(run.events.glob("*.jsonl")), "a") as file:
            file.write(f"{line}\n")

    return harm


_CELL = {"sampling": {"temperature": 1.0}, "numbers": {"rep-4": {"score": "a"}}}

HARMS: dict[str, Harm] = {
    "chess": result_of("chess"),
    "chess-no-mapping": result_of("chess", [1], [2]),
    "chess-shares": result_of("chess", {"by_ply": 3, "by_phase": [], "format_valid": {}}),
    "chess-base": result_of("chess", {"by_ply": {"a": {}}}, {"weights": ["x"]}, "base"),
    "puzzles": result_of("chess-puzzles"),
    "puzzles-words": result_of("chess-puzzles", {"by_rating": {"0-9": {
        "score": 0.5, "interval": None, "n": 3, "random_legal": "x"}}}),
    "games": result_of("chess-games"),
    "games-words": result_of("chess-games", {"opponents": {"x": {}}, "elo": "far"}),
    "games-interval": result_of("chess-games", {"opponents": {}, "elo": {
        "elo": 1.0, "interval": None, "scale": "Elo"}}),
    "grid": result_of("grid"),
    "grid-empty": result_of("grid", {"cells": []}, {"by": "rep-4"}),
    "grid-words": result_of("grid", {"cells": [_CELL]}, {"by": "rep-4"}),
    "grid-no-mapping": result_of("grid", 3, [1]),
    "probe": result_of("probe"),
    "probe-interval": result_of("probe", {
        "retention": {"kept": 0.5, "interval": [1]}, "measures": [], "narrowed": None,
        "spill_over": None, "prompts": {}}),
    "probe-measures": result_of("probe", {"measures": [1], "retention": {"kept": None}}),
    "probe-no-mapping": result_of("probe", ["measures"]),
    "judge": result_of("judge", [1], [2]),
    "judge-infinite": result_of("judge", score=float("nan"), interval=(float("nan"), 1.0)),
    "judge-without-log": result_of("judge", {}, {"answers": "answers-final-00000001"}),
    "pairs": result_of("pairs", 3),
    "loss": result_of("loss", {"lower_is_better": [1]}),
    "facts": result_of("facts", {"facts": 3}),
    "votes": result_of("votes", [3]),
    "answers-numbers": _answers({"question": 3, "reference": 4, "tags": 5, "text": 6}),
    "answers-tags": _answers({"tags": [1, None], "left_out": "many", "ended": None}),
    "answers-sampling": lambda run: make_answers(
        run, ["yes"], **{"sampling.temperature": "hot", "sampling.max_new_tokens": []}),
    "answers-bare": lambda run: (
        run.evaluations.mkdir(), (run.evaluations / "answers-final-00000001.jsonl").write_text(
            '{"settings": {}}\n{"item_id": "a", "item_hash": "b", "repeat": 0}\n')),
    "answers-unhashable": lambda run: (
        run.evaluations.mkdir(), (run.evaluations / "answers-final-00000001.jsonl").write_text(
            '{"settings": {}}\n{"item_id": [1], "item_hash": {}, "repeat": 0}\n')),
    "data-list": lambda run: run.data_json.write_text("[]"),
    "data-number": lambda run: run.data_json.write_text('{"sources": 3}'),
    "data-empty": lambda run: run.data_json.write_text('{"sources": [{}], "mixture": [1, 2]}'),
    "data-bytes": lambda run: run.data_json.write_bytes(b"\xff\x00"),
    "data-folder": lambda run: (run.data_json.unlink(), run.data_json.mkdir()),
    "plan-checks": lambda run: run.plan_json.write_text('{"checks": 3}'),
    "plan-empty": lambda run: run.plan_json.write_text('{"checks": [{}], "accepted": 3}'),
    "plan-list": lambda run: run.plan_json.write_text("[1]"),
    "plan-parts": lambda run: (make_plan(run), run.plan_json.write_text(
        '{"memory": 3, "checks": [], "time": [1], "seconds": "a"}')),
    "page-folder": lambda run: (run.notebook_md.unlink(missing_ok=True), run.notebook_md.mkdir()),
    "page-bytes": lambda run: run.notebook_md.write_bytes(b"---\n\xff: [\n---\n<!-- tunebook"),
    "events-folder": lambda run: (run.events / "x.jsonl").mkdir(),
    "events-file": lambda run: (shutil.rmtree(run.events), run.events.write_text("x")),
    "event-kind": _event({"kind": ["a"]}),
    "event-state": _event({"kind": "state", "state": {"a": 1}, "step": 3}),
    "event-validation": _event({"kind": "validation", "step": "a", "loss": 1.0}),
    "release": lambda run: run.release_json.write_text("[]"),
}  # fmt: skip
"""What to do to a run, by a name for it."""


def make_malformed_book(book: Path) -> Path:
    """Fill a book with a run for each of `HARMS`, and with `first` and `second`, that are whole."""
    for name, harm in HARMS.items():
        harm(make_run(book, name))
    for name in ("first", "second"):
        run = make_run(book, name)
        make_chess(run, 0.8, 520)
        make_grid(run, even_grid())
        make_answers(run, ["one", "two"])
    return book
