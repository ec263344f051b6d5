"""Judging that is killed goes on without asking twice, and pays for nothing twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from judge_server import Act, JudgeServer, item_of, judge_server, says
from made_runs import make_run
from tunebook.book.evaluations import open_log, read_log, scores_of
from tunebook.book.places import RunFolder
from tunebook.evaluate.judge.asking import Task
from tunebook.evaluate.judge.client import JudgeError
from tunebook.evaluate.judge.prompts import find_prompt
from tunebook.evaluate.judge.settings import Judge
from tunebook.workflows.compare import read_scores
from tunebook.workflows.judging import Bench, score_tasks

N, CONCURRENCY = 200, 4

_PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_judge_resume import judge_all
from tunebook.book.places import RunFolder
judge_all(RunFolder(Path({book!r}), {run!r}), {url!r})
"""


def judge_all(
    run: RunFolder,
    url: str,
    n: int = N,
    *,
    concurrency: int = CONCURRENCY,
    retries: int = 3,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, float | None]:
    judge = Judge(base_url=url, model="m", concurrency=concurrency, retries=retries)
    bench = Bench(judge, find_prompt("default"))
    tasks = [Task("final", f"q{i}", "h", "Why?", None, f"item-{i}") for i in range(n)]
    with open_log(run, "judge", "final", bench.settings) as log:
        score_tasks(run, bench, tasks, {"final": log}, era=0, say=say)
        return {row.item_id: row.value for row in scores_of(log.rows, run.name)}


def faulty(prompt: str, nth: int) -> Act:
    """Answer late and, three times in ten, badly at first."""
    number = int(item_of(prompt).removeprefix("item-"))
    if number % 10 < 3 and nth == 1:
        bad = (Act(500), Act(429, b"{}", {"retry-after": "0.05"}), Act(how="reset"))
        return bad[number % 10]
    return says(f'{{"score": {number % 101}}}', seconds=0.02)


def test_a_killed_judgement_goes_on_and_asks_again_only_what_was_in_flight(book: Path) -> None:
    run = make_run(book, "first")
    with judge_server(faulty) as server:
        child = _start(run, server)
        while len(server.answered) < N // 2 and child.poll() is None:
            time.sleep(0.005)
        os.kill(child.pid, signal.SIGKILL)
        child.wait(30)
        time.sleep(0.2)  # the server ends what it says to nobody
        before = [item_of(prompt) for _, prompt in server.answered]
        scores = judge_all(run, server.base_url)
        after = [item_of(prompt) for _, prompt in server.answered[len(before) :]]
    assert scores == {f"q{i}": float(i % 101) for i in range(N)}
    assert N // 2 <= len(before) < N
    assert {*before, *after} == {f"item-{i}" for i in range(N)}
    assert max(Counter(before).values()) == max(Counter(after).values()) == 1
    # Only an answer that was on its way when the judging process died was asked for again.
    twice = set(before) & set(after)
    assert len(twice) <= CONCURRENCY
    assert twice <= set(before[-2 * CONCURRENCY :])


def _start(run: RunFolder, server: JudgeServer) -> subprocess.Popen[bytes]:
    here = Path(__file__).parent
    paths = [str(here.parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    program = _PROGRAM.format(
        tests=str(here), book=str(run.book), run=run.name, url=server.base_url
    )
    return subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)},
    )


def test_another_run_pays_only_for_answers_that_the_book_has_no_score_of(book: Path) -> None:
    with judge_server(faulty) as server:
        first = judge_all(make_run(book, "first"), server.base_url, 20)
        again = judge_all(RunFolder(book, "first"), server.base_url, 20)
        other = judge_all(make_run(book, "second"), server.base_url, 25)
        asked = Counter(item_of(prompt) for _, prompt in server.answered)
    assert first == again == {key: other[key] for key in first}
    assert set(asked.values()) == {1}
    assert len(asked) == 25


@pytest.mark.parametrize(("status", "asked"), [(402, 1), (400, 5), (200, 20)])
def test_a_judge_that_refuses_everything_spoils_nothing(
    book: Path, status: int, asked: int
) -> None:
    run, mended = make_run(book, "first"), False

    def behave(prompt: str, nth: int) -> Act:
        return says("70") if mended else Act(status, b'{"message": "Insufficient Balance"}')

    with judge_server(behave) as server:
        with pytest.raises(JudgeError, match="Insufficient Balance"):
            judge_all(run, server.base_url, 30, concurrency=1)
        assert len(server.requests) == asked
        mended = True
        assert set(judge_all(run, server.base_url, 30).values()) == {70.0}
        assert len(server.requests) == asked + 30


def test_what_was_never_judged_is_missing_until_a_later_session_asks_again(book: Path) -> None:
    run, ill = make_run(book, "first"), {"item-3": Act(400), "item-7": Act(503), "item-9": Act()}

    def behave(prompt: str, nth: int) -> Act:
        return ill.get(item_of(prompt), says("70"))

    with judge_server(behave) as server:
        first = judge_all(run, server.base_url, 10, retries=0)
        assert [key for key, value in first.items() if value is None] == ["q3", "q7", "q9"]
        del ill["item-3"], ill["item-7"]
        n_asked = len(server.requests)
        again = judge_all(run, server.base_url, 10, retries=0)
        assert [key for key, value in again.items() if value is None] == ["q9"]
        assert len(server.requests) == n_asked + 2 + 4
        # What became of an item is one line to every reader, with what it cost from the first.
        (log,) = run.evaluations.glob("judge-*.jsonl")
        lines = {line["item_id"]: line for line in read_log(log)}
        assert (lines["q3"]["value"], lines["q3"]["asked"]) == (70, 2)
        assert lines["q3"]["faults"] == ["request rejected"]
        assert lines["q9"]["requests"] == 8
        assert {row.item_id: row.value for row in read_scores(log)} == again


def test_what_stays_missing_never_takes_a_finished_evaluation_back(book: Path) -> None:
    run = make_run(book, "first")

    def behave(prompt: str, nth: int) -> Act:
        number = int(item_of(prompt).removeprefix("item-"))
        return says("70") if number % 3 else Act(400, b'"too long"')

    told: list[str] = []
    with judge_server(behave) as server:
        first = judge_all(run, server.base_url, 30, concurrency=1)
        assert list(first.values()).count(None) == 10
        assert judge_all(run, server.base_url, 30, concurrency=1, say=told.append) == first
        assert len(server.requests) == 30 + 5
    assert "5 questions in a row unanswered" in told[-1]
