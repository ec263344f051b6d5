"""While the book is first read nothing is shown, written or exported as if it were all."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from made_runs import make_run
from tunebook.book.index import Index
from tunebook.web import shelf
from tunebook.web.app import make_app
from tunebook.web.offline import offline_page
from tunebook.workflows.hypothesis import write_hypothesis
from tunebook.workflows.new import new_run


@pytest.fixture
def held(book: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Let no run be read until the event is set, and no page wait for it."""
    go_on = threading.Event()
    real = Index.read

    def slowly(index: Index, name: str) -> None:
        assert go_on.wait(30)
        real(index, name)

    monkeypatch.setattr(Index, "read", slowly)
    monkeypatch.setattr(shelf, "PATIENCE_SECONDS", 0.0)
    yield go_on
    go_on.set()


def test_a_run_that_waits_to_be_read_has_its_author_s_words_in_its_form(
    book: Path, held: threading.Event
) -> None:
    make_run(book, "done", predict=("val_loss < 3",))
    new_run(book, "waits")
    write_hypothesis(book, "waits", "my careful words", ["val_loss < 2"])
    client = TestClient(make_app(book), base_url="http://127.0.0.1")
    client.get("/")
    waits = client.get("/runs/waits").text
    assert "my careful words</textarea>" in waits
    assert "val_loss &lt; 2</textarea>" in waits
    assert "val_loss &lt; 3" in client.get("/runs/done").text


def test_a_form_shows_what_an_editor_wrote_since_the_book_was_read(
    book: Path, held: threading.Event
) -> None:
    new_run(book, "waits")
    held.set()
    shelf.Shelf(book).measured(whole=True)
    held.clear()
    write_hypothesis(book, "waits", "newer words", [])
    client = TestClient(make_app(book), base_url="http://127.0.0.1")
    client.get("/")
    assert "newer words</textarea>" in client.get("/runs/waits").text


def test_exports_wait_until_the_whole_book_is_read(book: Path, held: threading.Event) -> None:
    make_run(book, "run_1", predict=("val_loss < gone.val_loss",))
    client = TestClient(make_app(book), base_url="http://127.0.0.1")
    client.get("/")
    threading.Timer(0.1, held.set).start()
    index = client.get("/notebook.md").text
    assert "gone.val_loss" in index


def test_the_book_as_one_file_is_whole_however_long_reading_takes(
    book: Path, held: threading.Event
) -> None:
    make_run(book, "run_1", predict=("val_loss < gone.val_loss",))
    threading.Timer(0.1, held.set).start()
    assert "gone.val_loss" in offline_page(book)
