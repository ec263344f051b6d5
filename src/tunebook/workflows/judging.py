"""Answers to a judge and scores into logs: nothing is asked twice, nothing is lost."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import orjson

from tunebook.book.evaluations import EvaluationLog, settings_hash
from tunebook.book.judging import ScoreCache
from tunebook.book.places import RunFolder
from tunebook.evaluate.judge.asking import Judged, Task, judge_tasks, total
from tunebook.evaluate.judge.client import TIMED_OUT, UNANSWERED, UNREACHABLE, JudgeError
from tunebook.evaluate.judge.prompts import Prompt
from tunebook.evaluate.judge.settings import Judge

_SAID_EVERY_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Bench:
    """A judge with its prompt."""

    judge: Judge
    prompt: Prompt

    @property
    def settings(self) -> dict[str, object]:
        """Give what decides a score, as it is written down; others' scores are never mixed in."""
        prompt = {"name": self.prompt.name, "hash": self.prompt.hash}
        return {"judge": self.judge.identity(), "prompt": prompt}

    @property
    def hash(self) -> str:
        """Tell judges and prompts from others."""
        return settings_hash(self.judge.identity() | {"prompt": self.prompt.hash})


def score_tasks(
    run: RunFolder,
    bench: Bench,
    tasks: Sequence[Task],
    logs: Mapping[str, EvaluationLog],
    *,
    era: int | None,
    say: Callable[[str], None],
) -> dict[str, list[Judged]]:
    """Add a line for each task to the log of its subject, where it has none.

    Gives what was judged now, by subject; what was known is not among it.

    A score that another run of the book paid for is used again within an `era` of the judge; None
    uses none. Lines are durable one by one, so a kill costs the questions in flight. What the
    endpoint did not answer, or refused, is missing once it answers another question; when it
    never does, JudgeError ends this and nothing is written of it. What is missing so is asked
    again after all else, and stays missing where that fails.
    """
    cache = None if era is None else ScoreCache(run, bench.hash)
    to_ask = _to_ask(tasks, logs, cache, era)
    held: list[tuple[Task, Judged]] = []
    now: dict[str, list[Judged]] = {subject: [] for subject in logs}
    n_done, last_said = 0, time.monotonic()

    def done(task: Task, judged: Judged) -> None:
        nonlocal n_done, last_said
        content = _content(task, era)
        now[task.subject].append(judged)
        if judged.unanswered:
            held.extend((same, judged) for same in to_ask[content])
            return
        if judged.asked:
            write_held()
        for number, same in enumerate(to_ask[content]):
            line = _write(logs, same, judged, cached=number > 0)
            if cache is not None and judged.value is not None and judged.asked and not number:
                cache.add(content, {key: line[key] for key in ("value", "reply", "time")})
        n_done += 1
        if time.monotonic() - last_said >= _SAID_EVERY_SECONDS:
            last_said = time.monotonic()
            say(f"{n_done:,} of {len(to_ask):,} answers judged")

    def write_held() -> None:
        for task, judged in held:
            _write(logs, task, judged)
        held.clear()

    if not to_ask:
        return now
    say(f"{len(to_ask):,} of {len(tasks):,} answers to judge")
    new: list[Task] = []
    missing: list[Task] = []
    for same in to_ask.values():
        is_new = any(_line_of(logs, task) is None for task in same)
        (new if is_new else missing).append(same[0])
    judge_tasks(new, bench.judge, bench.prompt, done)
    write_held()
    try:
        judge_tasks(missing, bench.judge, bench.prompt, done)
        write_held()
    except JudgeError as error:
        say(f"what was missing before was asked again: {error}")
    return now


def why_none(bench: Bench, missing: Mapping[str, int], log: EvaluationLog) -> str:
    """Say why nothing got a score, from the count of each fault, and what to do."""
    why = ", ".join(f"{n} x {fault}" for fault, n in missing.items())
    if missing and missing.keys() <= {UNREACHABLE, TIMED_OUT}:
        return (
            f" ({why}): nothing answers at {bench.judge.base_url}; see that a judge runs there, "
            "and the same command asks again"
        )
    return f" ({why}); see {log.path}"


def _to_ask(
    tasks: Sequence[Task],
    logs: Mapping[str, EvaluationLog],
    cache: ScoreCache | None,
    era: int | None,
) -> dict[str, list[Task]]:
    """Give what has no score yet by what is judged; scores of the cache are written down."""
    to_ask: dict[str, list[Task]] = {}
    for task in tasks:
        before = _line_of(logs, task)
        if before is not None and before["fault"] not in UNANSWERED:
            continue
        content = _content(task, era)
        if cache is not None and (known := cache.get(content)) is not None:
            found = Judged(float(known["value"]), reply=str(known["reply"]))
            _write(logs, task, found, cached=True, when=str(known["time"]))
        else:
            # Weights that say the same get the same score: asked twice, it would be two.
            to_ask.setdefault(content, []).append(task)
    return to_ask


def _line_of(logs: Mapping[str, EvaluationLog], task: Task) -> dict[str, Any] | None:
    return logs[task.subject].get(task.item_id, task.item_hash, task.repeat)


def _write(
    logs: Mapping[str, EvaluationLog],
    task: Task,
    judged: Judged,
    *,
    cached: bool = False,
    when: str | None = None,
) -> dict[str, object]:
    if before := _line_of(logs, task):  # missing then, and paid for all the same
        judged = replace(
            judged,
            faults=(*before["faults"], *judged.faults),
            asked=before["asked"] + judged.asked,
            requests=before["requests"] + judged.requests,
            prompt_tokens=total((before["prompt_tokens"], judged.prompt_tokens)),
            completion_tokens=total((before["completion_tokens"], judged.completion_tokens)),
        )
    line: dict[str, object] = {
        "item_id": task.item_id,
        "item_hash": task.item_hash,
        "repeat": task.repeat,
        "value": judged.value,
        "cluster": task.cluster,
        "tags": task.tags,
        "answer": hashlib.sha256(task.answer.encode()).hexdigest()[:16],
        "empty": not task.answer.strip(),
        "fault": judged.fault,
        "faults": judged.faults,
        "asked": judged.asked,
        "requests": judged.requests,
        "prompt_tokens": judged.prompt_tokens,
        "completion_tokens": judged.completion_tokens,
        "reply": judged.reply,
        "cached": cached,
        "time": when or datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
    }
    logs[task.subject].add([line])
    return line


def _content(task: Task, era: int | None) -> str:
    judged = [task.question, task.reference, task.answer, task.other, task.repeat, era]
    return hashlib.sha256(orjson.dumps(judged)).hexdigest()
