"""The real client against a server that does everything wrong at least once."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise

import pytest

from judge_server import Act, JudgeServer, item_of, judge_server, says
from tunebook.errors import UsageError
from tunebook.evaluate.judge import client
from tunebook.evaluate.judge.asking import Judged, Task, judge_tasks
from tunebook.evaluate.judge.client import JudgeError
from tunebook.evaluate.judge.prompts import find_prompt
from tunebook.evaluate.judge.settings import Judge

BEHAVIOURS: dict[str, Callable[[int], Act]] = {
    # What is right at last, and what it takes: (value, fault, questions asked, requests).
    "json": lambda nth: says('{"reason": "fine", "score": 87}'),
    "prose": lambda nth: says("Let me think. It has merit.\n\nScore: 64 because of that."),
    "of a hundred": lambda nth: says("87/100"),
    "no usage": lambda nth: says("50", usage=False),
    "429 twice": lambda nth: (
        Act(429, b"{}", {"retry-after": "1.2"}) if nth <= 2 else says('{"score": 30}')
    ),
    "500 once": lambda nth: Act(500, b"oops") if nth == 1 else says('{"score": 31}'),
    "slow once": lambda nth: says('{"score": 32}', seconds=30 if nth == 1 else 0),
    "reset once": lambda nth: Act(how="reset") if nth == 1 else says('{"score": 33}'),
    "torn once": lambda nth: says('{"score": 34}', how="torn" if nth == 1 else "plain"),
    "garbage once": lambda nth: says("lorem ipsum" if nth == 1 else "35"),
    "out of range once": lambda nth: says("350" if nth == 1 else "36"),
    # What stays missing.
    "refusal": lambda nth: says("I cannot grade this."),
    "nothing said": lambda nth: says(None),
    "cut": lambda nth: says('{"score": 8', finish="length"),
    "no json": lambda nth: Act(body=b"<html>welcome</html>"),
    "wrong json": lambda nth: Act(body=b'{"choices": {"0": 5}}'),
    "huge": lambda nth: says("9" * (3 << 20)),
    "drip": lambda nth: says("37", how="drip"),
    "bad request": lambda nth: Act(400, b'{"error": {"message": "context too long"}}'),
    "503 always": lambda nth: Act(503, b"down", {"retry-after": "0.05"}),
}
FOUND = {
    "json": (87, None, 1, 1),
    "prose": (64, None, 1, 1),
    "of a hundred": (87, None, 1, 1),
    "no usage": (50, None, 1, 1),
    "429 twice": (30, None, 1, 3),
    "500 once": (31, None, 1, 2),
    "slow once": (32, None, 1, 2),
    "reset once": (33, None, 1, 2),
    "torn once": (34, None, 2, 2),
    "garbage once": (35, None, 2, 2),
    "out of range once": (36, None, 2, 2),
    "refusal": (None, "no score", 4, 4),
    "nothing said": (None, "empty reply", 4, 4),
    "cut": (None, "reply cut off at max_tokens", 4, 4),
    "no json": (None, "reply not in the protocol", 4, 4),
    "wrong json": (None, "reply not in the protocol", 4, 4),
    "huge": (None, "reply too large", 4, 4),
    "drip": (None, "timed out", 1, 1),
    "bad request": (None, "request rejected", 1, 1),
    "503 always": (None, "server error", 1, 3),
}


def a_task(number: int, answer: str | None = None) -> Task:
    return Task("final", f"q{number}", f"h{number}", "Why?", "Because.", answer or f"item-{number}")


def ask(server: JudgeServer, tasks: list[Task], **settings: object) -> dict[str, Judged]:
    found: dict[str, Judged] = {}

    def keep(task: Task, judged: Judged) -> None:
        assert task.item_id not in found
        found[task.item_id] = judged

    judge_tasks(tasks, make_judge(server, **settings), find_prompt("default"), keep)
    return found


def make_judge(server: JudgeServer, **settings: object) -> Judge:
    values = {"timeout_seconds": 1.0, "retries": 2, "base_url": server.base_url, "model": "m"}
    return Judge.model_validate(values | settings)


def test_every_fault_of_an_endpoint_is_counted_and_nothing_is_lost() -> None:
    names = list(BEHAVIOURS)

    def behave(prompt: str, nth: int) -> Act:
        return BEHAVIOURS[names[int(item_of(prompt).removeprefix("item-"))]](nth)

    began = time.monotonic()
    with judge_server(behave) as server:
        tasks = [a_task(number) for number in range(len(names))]
        found = ask(server, [*tasks, a_task(99, answer=" \n")], concurrency=32)
        sent = len(server.requests)
    assert time.monotonic() - began < 30
    # Waited as told: the client's own first pauses are half a second and a second.
    asked = [when for when, p in server.began if item_of(p) == f"item-{names.index('429 twice')}"]
    assert [b - a >= 1.2 for a, b in pairwise(asked)] == [True, True]
    empty = found.pop("q99")
    assert (empty.value, empty.asked) == (0, 0)
    assert {
        name: (one.value, one.fault, one.asked, one.requests)
        for name, one in zip(names, (found[f"q{n}"] for n in range(len(names))), strict=True)
    } == FOUND
    assert sum(one.requests for one in found.values()) == sent
    assert found["q3"].prompt_tokens is None
    assert found["q9"].prompt_tokens == 200
    assert found["q9"].faults == ("no score",)


def test_a_judge_that_is_gone_ends_in_a_sentence_and_keeps_what_was_scored() -> None:
    def behave(prompt: str, nth: int) -> Act:
        alive = int(item_of(prompt).removeprefix("item-")) < 3
        return says("70") if alive else Act(how="reset")

    found: list[str] = []
    with judge_server(behave) as server:
        judge = make_judge(server, retries=0, concurrency=1)
        with pytest.raises(JudgeError, match="5 questions in a row unanswered") as error:
            judge_tasks(
                [a_task(n) for n in range(50)],
                judge,
                find_prompt("default"),
                lambda task, judged: found.append(task.item_id),
            )
    assert found == [f"q{n}" for n in range(8)]
    assert "the same command goes on" in str(error.value)


@pytest.mark.parametrize(
    ("status", "headers", "way_out"),
    [
        (401, {}, "check the key in MY_KEY"),
        (404, {}, "check base_url"),
        (302, {"location": "http://127.0.0.1:9/v1"}, "points elsewhere"),
    ],
)
def test_an_endpoint_that_refuses_everything_is_asked_once_and_never_told_the_key_elsewhere(
    status: int, headers: dict[str, str], way_out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-secret")
    with judge_server(lambda prompt, nth: Act(status, b'"sk-secret is bad"', headers)) as server:
        with pytest.raises(JudgeError, match=way_out) as error:
            ask(server, [a_task(n) for n in range(9)], key_env="MY_KEY", concurrency=1)
        assert len(server.requests) == 1
    assert "sk-secret" not in str(error.value)


def test_only_the_key_leaves_the_environment_and_it_is_not_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-secret")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-other")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-other")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Other: org-other")
    with judge_server(lambda prompt, nth: says("sk-secret 5, score: 5")) as server:
        found = ask(server, [a_task(1)], key_env="MY_KEY", extra={"top_k": 1})
        assert server.requests[0]["top_k"] == 1
        sent = server.headers[0]
    assert sent["authorization"] == "Bearer sk-secret"
    assert not any("other" in value for value in sent.values())
    assert (found["q1"].value, found["q1"].reply) == (5, "[key] 5, score: 5")
    monkeypatch.delenv("MY_KEY")
    with pytest.raises(UsageError, match="MY_KEY holds no key"):
        make_judge(server, key_env="MY_KEY").key()


@pytest.mark.parametrize("status", [200, 400, 401])
def test_a_key_across_the_end_of_what_is_kept_leaves_no_part_of_itself(
    status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-secret")
    text = f'{{"message": "{"x" * 448}{"sk-secret" * 9}"}}'
    with judge_server(lambda prompt, nth: Act(status, text.encode())) as server:
        try:
            shown = ask(server, [a_task(1)], key_env="MY_KEY")["q1"].reply
        except JudgeError as error:
            shown = str(error)
    assert "x[key]" in shown
    assert "sk-" not in shown


def test_a_judge_may_take_as_long_as_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_MOST_SECONDS", 0.2)
    with judge_server(lambda prompt, nth: says("44", seconds=0.5)) as server:
        assert ask(server, [a_task(1)], timeout_seconds=5)["q1"].value == 44


def test_the_rate_limit_counts_repetitions_too() -> None:
    def behave(prompt: str, nth: int) -> Act:
        return Act(429, b"{}", {"retry-after": "0.01"}) if nth == 1 else says("1")

    with judge_server(behave) as server:
        began = time.monotonic()
        ask(server, [a_task(n) for n in range(4)], rate_per_minute=600)
        times = sorted(when - began for when, _ in server.began)
    assert len(times) == 8
    assert all(when > number / 10 for number, when in enumerate(times))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"base_url": "ftp://x/v1"}, "must be an address"),
        ({"base_url": "https://me:pw@x/v1"}, "key_env"),
        ({"base_url": "https://x/v1?key=abc"}, "key_env"),
    ],
)
def test_addresses_that_hold_a_secret_or_lead_nowhere_are_refused(
    settings: dict[str, object], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        Judge.model_validate({"model": "m"} | settings)


def test_a_link_local_address_is_refused() -> None:
    with pytest.raises(UsageError, match="link-local"):
        Judge(base_url="http://169.254.169.254/v1", model="m").refuse_link_local()
