from __future__ import annotations

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
