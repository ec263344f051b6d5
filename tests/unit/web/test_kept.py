"""Pages are written again when something of them is new, and only then."""

from __future__ import annotations

import importlib
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from made_runs import make_run, make_step, make_validation
from tunebook.book.events import EventWriter
from tunebook.web import kept, runs_rows
from tunebook.web.app import make_app
from tunebook.web.desk import Desk
from tunebook.workflows.note import write_note

PAGES = ("/", "/?sort=val_loss&columns=name,note,val_loss", "/notebook", "/lineage", "/sweep")


@pytest.fixture
def client(book: Path) -> TestClient:
    for number in range(4):
        make_run(book, f"run_{number}", loss=2 + number / 10)
    importlib.import_module("scipy.stats")  # the sweep is written once more when it is there
    return TestClient(make_app(book), base_url="http://127.0.0.1")


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """List the templates that are rendered."""
    found: list[str] = []
    real = Desk.render

    def render(desk: Desk, request: object, template: str, **values: object) -> str:
        found.append(template)
        return real(desk, request, template, **values)  # type: ignore[arg-type]

    monkeypatch.setattr(Desk, "render", render)
    return found


@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_written_once_as_long_as_nothing_is_new(
    client: TestClient, written: list[str], path: str
) -> None:
    first = client.get(path)
    assert [client.get(path).text for _ in range(3)] == [first.text] * 3
    assert len(written) == 1


@pytest.mark.parametrize("path", [path for path in PAGES if path != "/sweep"])
def test_what_is_new_is_on_the_page_at_the_next_look(
    client: TestClient, book: Path, path: str
) -> None:
    first = client.get(path).text
    make_run(book, "run_9", loss=7.125)
    second = client.get(path).text
    assert "7.125" not in first
    assert "7.125" in second
    assert second == TestClient(
        make_app(book, client.app.state.desk.guard), base_url="http://127.0.0.1"  # type: ignore[attr-defined]
    ).get(path).text  # fmt: skip


def test_only_rows_of_which_something_is_new_are_written_again(
    client: TestClient, book: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[str] = []
    real = runs_rows.verdict_chips
    monkeypatch.setattr(
        runs_rows, "verdict_chips", lambda run: rows.append(run.name) or real(run)  # type: ignore[func-returns-value]
    )  # fmt: skip
    client.app.state.desk.shelf.measured(whole=True)  # type: ignore[attr-defined]
    client.get("/")
    assert rows == [f"run_{number}" for number in range(4)]
    write_note(book, ["run_2"], "looked at again")
    assert "looked at again" in client.get("/").text
    assert rows[4:] == ["run_2"]


def test_a_row_is_held_against_the_run_that_it_extends_as_that_is_now(book: Path) -> None:
    make_run(book, "a", method="lora", rank=8)
    make_run(book, "b", method="lora", rank=8, extends="a")
    client = TestClient(make_app(book), base_url="http://127.0.0.1")
    page = "/?columns=name,lora.rank"
    assert "<b>8</b>" not in client.get(page).text
    found = book / "runs" / "a" / "resolved.yaml"
    found.write_text(found.read_text().replace("rank: 8", "rank: 16"))
    assert "<b>8</b>" in client.get(page).text


def test_a_prediction_is_scored_again_when_the_run_that_it_is_about_changes(book: Path) -> None:
    make_run(book, "a", loss=2.0, predict=("val_loss < b.val_loss",))
    other = make_run(book, "b", loss=3.0)
    client = TestClient(make_app(book), base_url="http://127.0.0.1")
    assert "1 of 1" in client.get("/").text
    with EventWriter(other, 2) as events:
        events.write("validation", make_validation(11, 1.0))
        events.write("step", make_step(11))
        events.write("state", {"state": "finished", "reason": "", "step": 11})
    assert "0 of 1" in client.get("/").text


def test_the_oldest_pages_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MOST_BYTES", 100)
    pages, written = kept.Kept(), []
    for key in (1, 2, 3, 1, 3):
        pages.page(key, (), lambda k=key: written.append(k) or kept.Written(b"x" * 40))  # type: ignore[misc]
    assert written == [1, 2, 3, 1]


def test_only_so_many_pages_hold_on_to_what_they_were_written_from() -> None:
    pages, written = kept.Kept(), []
    for key in (*range(kept.MOST_PAGES + 1), 1, 0):
        pages.page(key, (), lambda k=key: written.append(k) or kept.Written(b"x"))  # type: ignore[misc]
    assert written == [*range(kept.MOST_PAGES + 1), 0]


def test_a_page_that_several_ask_for_at_once_is_written_once() -> None:
    pages, written, go_on = kept.Kept(), [], threading.Event()

    def write() -> kept.Written:
        written.append(1)
        assert go_on.wait(30)
        return kept.Written(b"x")

    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(pages.page, "key", (written,), write) for _ in range(8)]
        go_on.set()
        assert {one.result(30).body for one in asked} == {b"x"}
    assert len(written) == 1


@pytest.mark.parametrize("path", ["/lineage", "/notebook", "/sweep", "/"])
def test_what_a_page_does_not_read_of_an_address_makes_no_other_page(
    client: TestClient, written: list[str], path: str
) -> None:
    first = client.get(path).text
    assert [client.get(f"{path}?z={n}{'x' * 500}").text for n in range(3)] == [first] * 3
    assert len(written) == 1


def test_what_was_asked_for_counts_as_what_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MOST_BYTES", 100_000)
    pages, made = kept.Kept(), []

    def write() -> kept.Written:
        made.append(1)
        return kept.Written(b"short")

    for _ in range(2):
        for number in range(10):
            pages.page(("/", f"{number}" + "x" * 10_000), (), write)
    assert len(made) == 20


def test_links_of_long_views_are_not_kept() -> None:
    from tunebook.web import runs
    from tunebook.workflows.runs import Query

    runs._filter_link.cache_clear()
    for view in (
        runs.View(Query(("name=" + "x" * 600,), (), None, (), None)),
        runs.View(Query((), (), None, (), None), ("x" * 600,)),
    ):
        assert "filter=tags=a" in view.filter_link("tags=a")
    assert runs._filter_link.cache_info().currsize == 0
    assert runs.View(Query((), (), None, (), None)).filter_link("tags=a") == "?filter=tags=a"
    assert runs._filter_link.cache_info().currsize == 1
