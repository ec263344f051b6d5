"""Many questions to the judge at once: each is asked until it has a score or is missing.

An answer without text scores 0, loses against any other, and costs nothing. A reply without a score
is asked again up to three times and is then missing: no value, never 0, never left out. A question
that the endpoint did not answer, or refused, is missing too; after five such questions in a row it
is not about the questions, and asking ends with an error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tunebook.evaluate.judge.client import (
    CUT_OFF,
    NOT_THE_PROTOCOL,
    TIMED_OUT,
    UNANSWERED,
    UNREACHABLE,
    Endpoint,
    JudgeError,
    Reply,
)
from tunebook.evaluate.judge.parse import NoScore, read_choice, read_score
from tunebook.evaluate.judge.prompts import Prompt
from tunebook.evaluate.judge.settings import Judge

ASKED_AGAIN = 3
_GIVE_UP_AFTER = 5
_REPLY_KEPT = 2000  # characters


@dataclass(frozen=True, slots=True)
class Task:
    """One answer to be scored once, or two to be compared: `other` is shown second.

    Of two, the value is the first one's, or the second one's when they are `swapped`.
    """

    subject: str
    item_id: str
    item_hash: str
    question: str
    reference: str | None
    answer: str
    other: str | None = None
    swapped: bool = False
    repeat: int = 0
    cluster: str = ""
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Judged:
    """What came of a task: a value of 0..100 (of two answers, 1, 0.5 or 0 for the first), or none
    and the last fault.

    `faults` has the fault of every reply that gave no score, also where a later one did. `asked`
    counts questions, `requests` what was sent for them. Tokens are None where any reply with a text
    did not count them.
    """

    value: float | None
    fault: str | None = None
    faults: tuple[str, ...] = ()
    asked: int = 0
    requests: int = 0
    prompt_tokens: int | None = 0
    completion_tokens: int | None = 0
    reply: str = ""

    @property
    def unanswered(self) -> bool:
        """Tell whether nothing was judged, so that a later session asks again."""
        return self.fault in UNANSWERED


def judge_tasks(
    tasks: Iterable[Task], judge: Judge, prompt: Prompt, done: Callable[[Task, Judged], None]
) -> None:
    """Score tasks, several at a time; `done` is called for each as soon as it is decided.

    Raises JudgeError when the endpoint refuses or is gone; what `done` was told stays true.
    """
    asyncio.run(_judge_tasks(tasks, judge, prompt, done))


async def _judge_tasks(
    tasks: Iterable[Task], judge: Judge, prompt: Prompt, done: Callable[[Task, Judged], None]
) -> None:
    waiting = iter(tasks)
    unanswered: set[str] = set()  # not tasks: one question too long is refused for each repeat

    async def work(endpoint: Endpoint) -> None:
        for task in waiting:  # one iterator for all: each task is taken once
            judged = await _judge_one(task, endpoint, prompt)
            done(task, judged)
            if judged.unanswered:
                unanswered.add(task.item_id)
            elif judged.asked:
                unanswered.clear()
            if len(unanswered) >= _GIVE_UP_AFTER:
                said = f", {judged.reply}" if judged.reply else ""
                gone = judged.fault in (UNREACHABLE, TIMED_OUT)
                mend = "see that a judge runs there" if gone else "mend this"
                raise JudgeError(
                    f"{judge.base_url} left {len(unanswered)} questions in a row unanswered (the "
                    f"last: {judged.fault}{said}); what was scored is kept: {mend}, and "
                    "the same command goes on from there"
                )

    async with Endpoint(judge) as endpoint:
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(judge.concurrency):
                    group.create_task(work(endpoint))
        except BaseExceptionGroup as group_of:  # several at once when the endpoint goes away
            raise group_of.exceptions[0] from None


async def _judge_one(task: Task, endpoint: Endpoint, prompt: Prompt) -> Judged:
    if (plain := _without_asking(task)) is not None:
        return Judged(plain)
    text = prompt.fill(task.question, task.reference, task.answer, task.other)
    read = read_choice if prompt.pairwise else read_score
    replies: list[Reply] = []
    faults: list[str] = []
    value = None
    while value is None and len(replies) <= ASKED_AGAIN:
        reply = await endpoint.ask(text)
        replies.append(reply)
        try:
            if reply.fault is not None:
                raise NoScore(reply.fault)
            value = read(reply.text)
        except NoScore as none:
            faults.append(str(none))
            if reply.fault in UNANSWERED - {NOT_THE_PROTOCOL}:
                break  # the same again, or repeated by the client already
    answered = [reply for reply in replies if reply.fault in (None, CUT_OFF)]
    return Judged(
        1 - value if value is not None and task.swapped else value,
        fault=faults[-1] if value is None else None,
        faults=tuple(faults),
        asked=len(replies),
        requests=sum(reply.requests for reply in replies),
        prompt_tokens=total(reply.prompt_tokens for reply in answered),
        completion_tokens=total(reply.completion_tokens for reply in answered),
        reply=replies[-1].text[-_REPLY_KEPT:],
    )


def _without_asking(task: Task) -> float | None:
    """Score an answer without text 0, or let the other one win."""
    said, other = bool(task.answer.strip()), bool((task.other or "").strip())
    if task.other is None:
        return None if said else 0.0
    if said and other:
        return None
    return 0.5 + (said - other) / (-2 if task.swapped else 2)


def total(counts: Iterable[int | None]) -> int | None:
    """Add counts up; None where any is unknown."""
    known = list(counts)
    return None if None in known else sum(n for n in known if n is not None)
