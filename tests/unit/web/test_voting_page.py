"""Blind votes from a page: nothing tells who is who, nothing is voted on twice, nothing is lost."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from made_evaluations import make_answers
from made_runs import make_run
from tunebook.book.evaluations import read_log, read_results
from tunebook.web.app import make_app
from tunebook.web.guard import Guard
from tunebook.workflows.blind import open_voting

N = 8
NAMES = ("alpha_run", "omega_run")
URL = "/side?run=alpha_run&run=omega_run&blind=1"


@pytest.fixture
def client(book: Path) -> TestClient:
    """Two runs that answered alike; one answer is the same of both."""
    for name, said in zip(NAMES, ("good", "poor"), strict=True):
        texts = [f"{said} {i}" if i else "the same" for i in range(N)]
        make_answers(make_run(book, name), texts)
    return TestClient(make_app(book, Guard()), base_url="http://127.0.0.1")


def fields(page: str) -> dict[str, str]:
    return dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', page))


def better(page: str, prefers: str) -> str:
    return "1" if page.index(prefers) < page.index("poor" if prefers == "good" else "good") else "2"


def votes(book: Path) -> list[dict[str, Any]]:
    (log,) = (book / "runs" / NAMES[0] / "evaluations").glob("votes-*.jsonl")
    return read_log(log)


def test_a_ballot_tells_nothing_of_whose_answers_it_shows(client: TestClient) -> None:
    page = client.get(URL)
    for name in NAMES:
        assert name not in page.text
    assert "a_first" not in page.text
    assert page.text.count("Question") >= 1
    answered = client.post(
        "/side/vote", data={**fields(page.text), "vote": "1"}, follow_redirects=True
    )
    for name in NAMES:
        assert name not in answered.text


def test_looking_at_a_ballot_writes_nothing(book: Path, client: TestClient) -> None:
    client.get(URL)
    assert not list((book / "runs" / NAMES[0] / "evaluations").glob("votes-*"))


def test_votes_are_those_of_the_terminal_and_are_counted_at_the_end(
    book: Path, client: TestClient
) -> None:
    with open_voting(NAMES, book) as voting:  # one vote of a terminal
        first = voting.waiting[0]
        voting.cast(first, "1" if first.a_first else "2")
    page = client.get(URL).text
    assert f"question 2 of {N - 1}" in page
    for _ in range(N - 2):
        sent = {**fields(page), "vote": better(page, "good")}
        page = client.post("/side/vote", data=sent, follow_redirects=True).text
    assert "<b>alpha_run</b> won 0.938" in page  # a tie of equal answers among eight
    assert "for one of the two 7, ties 1, skipped 0, without a vote 0" in page
    assert "the answer shown first won" in page
    (counted,) = read_results(open_run_folder(book), "votes")
    assert (counted.n, counted.against) == (N, "omega_run")
    assert {row["value"] for row in votes(book)} == {0.5, 1.0}


def open_run_folder(book: Path) -> Any:
    from tunebook.book.places import open_run

    return open_run(book, NAMES[0])


def test_sending_a_ballot_again_changes_nothing(book: Path, client: TestClient) -> None:
    page = client.get(URL).text
    sent = fields(page)
    with ThreadPoolExecutor(4) as pool:
        answers = list(
            pool.map(
                lambda vote: client.post(
                    "/side/vote", data={**sent, "vote": vote}, follow_redirects=False
                ),
                ["1", "1", "1", "1"],
            )
        )
    assert {answer.status_code for answer in answers} == {303}
    client.post("/side/vote", data={**sent, "vote": "2"})
    cast = [row for row in votes(book) if row["vote"] != "t"]
    assert [row["vote"] for row in cast] == ["1"]
    made_up = {**sent, "item": "f" * 24, "vote": "1"}
    client.post("/side/vote", data=made_up)
    assert len(votes(book)) == 2


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (lambda sent: {**sent, "vote": "3"}, 400),
        (lambda sent: {**sent, "vote": "1", "poll": "made-up"}, 400),
        (lambda sent: {**sent, "vote": "1", "csrf": "made-up"}, 403),
    ],
)
def test_what_is_no_vote_is_refused(
    client: TestClient, change: Callable[[dict[str, str]], dict[str, str]], status: int
) -> None:
    sent = fields(client.get(URL).text)
    assert client.post("/side/vote", data=change(sent)).status_code == status


def test_a_voter_in_a_terminal_is_not_disturbed(book: Path, client: TestClient) -> None:
    page = client.get(URL).text
    with open_voting(NAMES, book) as voting:
        voting.cast(voting.waiting[1], "2")
        refused = client.post("/side/vote", data={**fields(page), "vote": "1"})
        assert refused.status_code == 409
        assert "this vote was not taken" in refused.text
        assert "good" in refused.text  # the same ballot, to vote again
        voting.cast(voting.waiting[2], "t")
    client.post("/side/vote", data={**fields(page), "vote": "s"})
    assert sorted(row["vote"] for row in votes(book)) == ["2", "s", "t", "t"]


def test_stopping_counts_what_there_is_and_can_be_gone_on_with(
    book: Path, client: TestClient
) -> None:
    page = client.get(URL).text
    data = {**fields(page), "vote": better(page, "poor")}
    client.post("/side/vote", data=data)
    page = client.get(URL).text
    done = client.post(
        "/side/vote", data={**fields(page), "vote": "count"}, follow_redirects=True
    ).text
    assert f"without a vote {N - 2}" in done
    assert "Go on voting" in done
    assert "question 2 of 7" in client.get(URL).text


def test_two_that_answered_nothing_in_common_say_how_they_would(
    book: Path, client: TestClient
) -> None:
    make_run(book, "silent")
    page = client.get("/side?run=alpha_run&run=silent&blind=1").text
    assert "`tunebook compare A B --blind --ask FILE`" in page
    three = client.get(f"{URL}&run=silent").text
    assert "blind voting is between two" in three
