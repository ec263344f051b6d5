"""A frozen set of answers, scored anew in every session: did the judge itself move?

Hosted models change behind their name, so scores of two sessions compare only while the frozen
answers score the same. When they do not, a new era begins: scores of one era are never used in
another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import orjson

from tunebook.book.evaluations import EvaluationLog, open_log, scores_of
from tunebook.book.judging import (
    add_anchor_session,
    freeze_anchor_answers,
    read_anchor_answers,
    read_anchor_sessions,
)
from tunebook.book.places import RunFolder
from tunebook.errors import UsageError
from tunebook.evaluate.judge.asking import Task
from tunebook.evaluate.judge.summary import SCALE
from tunebook.records import Comparison, ItemScore
from tunebook.statistics.compare import compare
from tunebook.workflows.judging import Bench, score_tasks

MOVED_P = 0.01
_FEWEST, _MOST = 20, 30
_SESSION = timedelta(hours=1)
_FROZEN = "frozen"


@dataclass(frozen=True, slots=True)
class Anchor:
    """What the frozen answers say of this session.

    `comparison` is with the first session of the era that `since` began; None in that session
    itself. `moved` says that this session began a new one.
    """

    era: int
    n: int
    since: str | None
    comparison: Comparison | None
    moved: bool


def era_of(run: RunFolder, bench: Bench) -> int:
    """Give the era that the judge's last session was in; 0 before there was any."""
    sessions = read_anchor_sessions(run, bench.hash)
    return int(sessions[-1]["era"]) if sessions else 0


def check_anchor(
    run: RunFolder, bench: Bench, tasks: Sequence[Task], say: Callable[[str], None]
) -> Anchor:
    """Score the frozen answers of the book, made of `tasks` when it has none yet.

    A session of less than an hour ago still counts. UsageError when there is too little to freeze,
    or the frozen answers are not those that earlier sessions scored.
    """
    frozen = _frozen_tasks(run, tasks)
    sessions = read_anchor_sessions(run, bench.hash)
    if sessions and set(sessions[-1]["scores"]) != {task.item_hash for task in frozen}:
        raise UsageError(
            f"the answers in {run.judge_anchor / 'answers.jsonl'} are not those that "
            "sessions.jsonl beside it scored; restore the file, or move both away to begin anew"
        )
    last = sessions[-1] if sessions else None
    if last is not None and datetime.now(UTC) - datetime.fromisoformat(last["time"]) < _SESSION:
        return _anchor(last)
    with _session_log(run, bench, len(sessions)) as log:
        score_tasks(run, bench, frozen, {_FROZEN: log}, era=None, say=say)
        own = [log.get(task.item_id, task.item_hash) for task in frozen]
        rows = scores_of([line for line in own if line is not None], _FROZEN)
    if all(row.value is None for row in rows):
        raise UsageError("no frozen answer got a score, so the judge cannot be checked")
    session = _compare(rows, sessions)
    session |= {"judge": bench.hash, "time": datetime.now(UTC).isoformat(timespec="seconds")}
    add_anchor_session(run, session)
    return _anchor(session)


@contextmanager
def _session_log(run: RunFolder, bench: Bench, number: int) -> Iterator[EvaluationLog]:
    """Open the log of a session; one that was broken off too long ago is left as it is."""
    for attempt in count():
        settings = bench.settings | {"session": number, "attempt": attempt}
        with open_log(run, "anchor", _FROZEN, settings) as log:
            begun = min((datetime.fromisoformat(row["time"]) for row in log.rows), default=None)
            if begun is None or datetime.now(UTC) - begun < _SESSION:
                yield log
                return


def _frozen_tasks(run: RunFolder, tasks: Sequence[Task]) -> list[Task]:
    lines = read_anchor_answers(run)
    if not lines:
        distinct = {(t.question, t.answer): t for t in tasks if t.answer.strip()}
        chosen = list(distinct.values())[:_MOST]
        if len(chosen) < _FEWEST:
            raise UsageError(
                f"an anchor needs {_FEWEST} different answers and there are {len(chosen)}; ask "
                "more questions with --n, or leave --anchor out"
            )
        lines = [
            {"question": t.question, "reference": t.reference, "answer": t.answer} for t in chosen
        ]
        lines = freeze_anchor_answers(run, lines)
    return [
        Task(_FROZEN, digest, digest, line["question"], line["reference"], line["answer"])
        for digest, line in {_digest(line): line for line in lines}.items()
    ]


def _digest(line: Mapping[str, Any]) -> str:
    """Tell a frozen answer by its content alone: its place in the file says nothing."""
    content = [line["question"], line["reference"], line["answer"]]
    return hashlib.sha256(orjson.dumps(content)).hexdigest()[:16]


def _compare(rows: Sequence[ItemScore], sessions: Sequence[dict[str, Any]]) -> dict[str, Any]:
    scores = {row.item_hash: row.value for row in rows}
    if not sessions:
        return {"era": 0, "since": None, "comparison": None, "moved": False, "scores": scores}
    era = sessions[-1]["era"]
    first = next(one for one in sessions if one["era"] == era)
    before = [ItemScore(key, key, first["time"], value) for key, value in first["scores"].items()]
    found = compare(rows, before, scale=SCALE)
    moved = found.p is not None and found.p < MOVED_P
    return {
        "era": era + 1 if moved else era,
        "since": first["time"],
        "comparison": asdict(found),
        "moved": moved,
        "scores": scores,
    }


def _anchor(session: dict[str, Any]) -> Anchor:
    found = session["comparison"]
    return Anchor(
        era=session["era"],
        n=len(session["scores"]),
        since=session["since"],
        comparison=None if found is None else Comparison(**found),
        moved=session["moved"],
    )
