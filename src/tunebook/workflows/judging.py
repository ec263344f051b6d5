"""Answers to a judge and scores into logs: nothing is asked twice, nothing is lost."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import orjson

from tunebook.book.evaluations import EvaluationLog, settings_hash
from tunebook.book.judging import ScoreCache
from tunebook.book.places import RunFolder
from tunebook.evaluate.judge.asking import Judged, Task, judge_tasks
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
) -> None:
    """Add a line for each task to the log of its subject, where it has none.

    A score that another run of the book paid for is used again within an `era` of the judge; None
    uses none. Lines are durable one by one, so a kill costs the questions in flight. What the
    endpoint never answered is written down as missing at the end alone: when the judge goes away
    before, it is asked again next time.
    """
    cache = None if era is None else ScoreCache(run, bench.hash)
    to_ask: dict[str, list[Task]] = {}
    for task in tasks:
        if logs[task.subject].has(task.item_id, task.item_hash, task.repeat):
            continue
        content = _content(task, era)
        if cache is not None and (known := cache.get(content)) is not None:
            found = Judged(float(known["value"]), reply=str(known["reply"]))
            _write(logs, task, found, cached=True, when=str(known["time"]))
        else:
            # Weights that say the same get the same score: asked twice, it would be two.
            to_ask.setdefault(content, []).append(task)
    unanswered: list[tuple[Task, Judged]] = []
    n_done, last_said = 0, time.monotonic()

    def done(task: Task, judged: Judged) -> None:
        nonlocal n_done, last_said
        content = _content(task, era)
        if judged.unanswered:
            unanswered.extend((same, judged) for same in to_ask[content])
            return
        for number, same in enumerate(to_ask[content]):
            line = _write(logs, same, judged, cached=number > 0)
            if cache is not None and judged.value is not None and judged.asked and not number:
                cache.add(content, {key: line[key] for key in ("value", "reply", "time")})
        n_done += 1
        if time.monotonic() - last_said >= _SAID_EVERY_SECONDS:
            last_said = time.monotonic()
            say(f"{n_done:,} of {len(to_ask):,} answers judged")

    if to_ask:
        say(f"{len(to_ask):,} of {len(tasks):,} answers to judge")
        first = [same[0] for same in to_ask.values()]
        judge_tasks(first, bench.judge, bench.prompt, done)
    for task, judged in unanswered:
        _write(logs, task, judged)


def _write(
    logs: Mapping[str, EvaluationLog],
    task: Task,
    judged: Judged,
    *,
    cached: bool = False,
    when: str | None = None,
) -> dict[str, object]:
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
