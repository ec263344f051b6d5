from __future__ import annotations

import json
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from made_chess import make_chess
from made_runs import make_run
from tunebook.web.app import make_app


@pytest.fixture
def client(book: Path) -> TestClient:
    first, second = make_run(book, "run_1"), make_run(book, "run_2")
    for run in (first, second):
        make_chess(run, 0.3, 120, "base")
    make_chess(first, 0.8, 520)
    make_chess(second, 0.1, None)
    make_run(book, "run_3")
    return TestClient(make_app(book), base_url="http://127.0.0.1")


def test_runs_stand_side_by_side_and_a_base_they_share_stands_once(client: TestClient) -> None:
    page = client.get("/chess").text
    assert "run_1 base" in page
    assert "run_2 base" not in page
    assert page.count('<polygon class="band') == 3
    assert "80 % (70 % to 90 %), n 80" in page
    assert "illegal" in page
    assert "rating 0-999" in page


def test_an_elo_is_drawn_among_its_opponents_and_a_limit_is_said(client: TestClient) -> None:
    page = client.get("/chess?run=run_1&run=run_2").text
    assert "Elo: 520 (450 to 600), given the ratings" in page
    assert "Elo: below -800, all were lost (95 %)" in page
    assert ">random 250</text>" in page


def test_one_run_is_shown_alone(client: TestClient) -> None:
    page = client.get("/chess?run=run_2").text
    assert "run_2 base" in page  # asked for alone, its base is its own
    assert "run_1 final" not in page


def test_a_run_without_chess_says_which_command_makes_it(client: TestClient) -> None:
    assert "tunebook chess run_3" in client.get("/chess?run=run_3").text
    assert client.get("/chess?run=run_9").status_code == 404


def test_a_book_without_chess_says_which_command_makes_it(book: Path) -> None:
    make_run(book, "run_1")
    page = TestClient(make_app(book), base_url="http://127.0.0.1").get("/chess").text
    assert "tunebook chess RUN" in page


def test_the_newest_of_a_base_that_runs_share_is_shown(book: Path) -> None:
    first, second = make_run(book, "run_1"), make_run(book, "run_2")
    make_chess(second, 0.3, None, "base")
    make_chess(first, 0.9, None, "base")
    client = TestClient(make_app(book), base_url="http://127.0.0.1")
    for run, finished in ((first, "2026-01-02T00:00:00Z"), (second, "2026-01-01T00:00:00Z")):
        for path in run.evaluations.glob("*.json"):
            known = json.loads(path.read_text())
            path.write_text(json.dumps(known | {"finished": finished}))
    page = client.get("/chess").text
    assert "run_1 base" in page
    assert "run_2 base" not in page
    assert "90 % (80 % to 100 %)" in page


def test_what_is_not_shown_and_what_does_not_compare_is_said(book: Path) -> None:
    for i in range(12):
        make_chess(run := make_run(book, f"run_{i:02}"), 0.5, None)
    client = TestClient(make_app(book), base_url="http://127.0.0.1")
    page = client.get("/chess").text
    assert "12 sets of weights are more than the 10" in page
    assert "not shown: run_10 final, run_11 final" in page
    assert "different sets" not in page
    path = next(run.evaluations.glob("chess-final*.json"))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"examples_hash": "other"}))
    page = client.get("/chess?run=run_00&run=run_11").text
    assert "asked 2 different sets of positions" in page
    assert "sets of puzzles" not in page
