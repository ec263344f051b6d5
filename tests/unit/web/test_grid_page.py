from __future__ import annotations

from pathlib import Path

from fastapi.testclient import TestClient

from made_chess import even_grid, make_grid
from made_runs import make_run
from tunebook.book.evaluations import read_results
from tunebook.pages.grid_map import draw_grid
from tunebook.web.app import make_app


def test_a_cell_shows_its_value_and_its_interval_and_the_number_can_be_chosen(book: Path) -> None:
    make_grid(make_run(book, "run_1"), even_grid() | {(0.5, 0.9, 1.0): 0.31})
    client = TestClient(make_app(book), base_url="http://127.0.0.1")
    page = client.get("/grid/run_1").text
    assert ">0.310</text>" in page
    assert ">0.290 to 0.330</text>" in page
    assert "temperature 0.5, top-p 0.9, penalty 1: rep-4 0.310" in page
    assert "rep-2 of final" in client.get("/grid/run_1?by=rep-2").text
    assert client.get("/grid/run_1?by=rep-9").status_code == 400
    assert '<a href="/grid/run_1">' in client.get("/sweep").text


def test_a_run_without_a_grid_says_which_command_makes_one(book: Path) -> None:
    make_run(book, "run_1")
    client = TestClient(make_app(book), base_url="http://127.0.0.1")
    assert "tunebook grid run_1" in client.get("/grid/run_1").text
    assert client.get("/grid/run_2").status_code == 404


def stands_out(book: Path, scores: dict[tuple[float, float, float], float]) -> list[str]:
    run = make_run(book, f"run_{len(list((book / 'runs').iterdir()))}")
    make_grid(run, scores)
    drawn = draw_grid(read_results(run, "grid")[-1], "rep-4")
    return [square.value for heat_map in drawn for square in heat_map.squares if square.stands_out]


def test_a_cell_is_marked_only_where_it_is_beyond_every_neighbour(book: Path) -> None:
    even = even_grid()
    place = (0.5, 1.0, 1.0)
    assert stands_out(book, even) == []
    assert stands_out(book, even | {place: 0.19}) == []  # the intervals meet
    assert stands_out(book, even | {place: 0.1}) == ["0.100"]
    assert stands_out(book, even | {place: 0.1, (0.5, 1.0, 1.1): 0.11}) == []
    # Greedy knows no top-p: it is a neighbour of both cells below it.
    assert stands_out(book, even | {place: 0.1, (0.0, 1.0, 1.0): 0.1}) == []


def test_squares_lie_beside_each_other_and_greedy_spans_all(book: Path) -> None:
    make_grid(run := make_run(book, "run_1"), even_grid())
    maps = draw_grid(read_results(run, "grid")[-1], "rep-4")
    assert [drawn.title for drawn in maps] == ["repetition penalty 1", "repetition penalty 1.1"]
    greedy, *others = maps[0].squares
    assert greedy.width == sum({square.x: square.width for square in others}.values())
    assert len({(square.x, square.y) for square in maps[0].squares}) == 5
