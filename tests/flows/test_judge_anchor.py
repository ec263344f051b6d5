"""The frozen answers of a book: always the same ones, and a session is of one hour."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from threading import Thread

import pytest

from judge_server import Act, JudgeServer, item_of, judge_server, says
from made_runs import make_run
from tunebook.book.judging import add_anchor_session, freeze_anchor_answers, read_anchor_sessions
from tunebook.book.places import RunFolder
from tunebook.errors import UsageError
from tunebook.evaluate.judge.asking import Task
from tunebook.evaluate.judge.client import JudgeError
from tunebook.evaluate.judge.prompts import find_prompt
from tunebook.evaluate.judge.settings import Judge
from tunebook.workflows import judge_anchor
from tunebook.workflows.judge_anchor import check_anchor
from tunebook.workflows.judging import Bench

TASKS = [Task("final", f"q{i}", "h", "Why?", None, f"item-{i}") for i in range(30)]


def a_bench(server: JudgeServer) -> Bench:
    judge = Judge(base_url=server.base_url, model="m", retries=0, concurrency=1)
    return Bench(judge, find_prompt("default"))


def test_other_answers_in_the_place_of_the_frozen_ones_are_refused(book: Path) -> None:
    run = make_run(book, "run_1")
    with judge_server(lambda prompt, nth: says("50")) as server:
        check_anchor(run, a_bench(server), TASKS, print)
        path = run.judge_anchor / "answers.jsonl"
        path.write_text(path.read_text().replace("item-3", "item-99"))
        n_asked = len(server.requests)
        with pytest.raises(UsageError, match="not those that sessions"):
            check_anchor(run, a_bench(server), [], print)
        assert len(server.requests) == n_asked


def test_a_session_broken_off_is_gone_on_with_for_an_hour_and_then_begun_anew(
    book: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, works = make_run(book, "run_1"), False

    def behave(prompt: str, nth: int) -> Act:
        gone = not works and int(item_of(prompt).removeprefix("item-")) >= 10
        return Act(503) if gone else says("60" if works else "50")

    def scored() -> list[float]:
        (session,) = read_anchor_sessions(run, bench.hash)
        return sorted(session["scores"].values())

    with judge_server(behave) as server:
        bench = a_bench(server)
        with pytest.raises(JudgeError):
            check_anchor(run, bench, TASKS, print)
        works = True
        with monkeypatch.context() as later:
            later.setattr(judge_anchor, "_SESSION", timedelta(0))
            check_anchor(run, bench, [], print)
        assert scored() == [60] * 30
        (run.judge_anchor / "sessions.jsonl").unlink()
        check_anchor(run, bench, [], print)
        assert scored() == [50] * 10 + [60] * 20


def test_processes_that_write_at_once_freeze_one_set_and_lose_no_session(book: Path) -> None:
    make_run(book, "run_1")
    frozen: list[object] = []

    def write(number: int) -> None:
        run = RunFolder(book, "run_1")
        frozen.append(json.dumps(freeze_anchor_answers(run, [{"answer": number}])))
        for _ in range(5):
            add_anchor_session(run, {"judge": "j", "number": number})

    threads = [Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(frozen)) == 1
    assert len(read_anchor_sessions(RunFolder(book, "run_1"), "j")) == 40
