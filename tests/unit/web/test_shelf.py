"""A large book is read beside the pages, and the pages say so."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from made_runs import make_run, make_step
from tunebook.book.events import EventWriter
from tunebook.book.index import Index
from tunebook.book.places import kept_steps
from tunebook.errors import UsageError
from tunebook.web import polls, shelf
from tunebook.web.app import make_app


def test_a_book_that_takes_long_to_read_is_shown_meanwhile_and_says_how_far_it_is(
    book: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("run_1", "run_2"):
        make_run(book, name)
    go_on = threading.Event()
    real = Index.read

    def slowly(index: Index, name: str) -> None:
        if name == "run_2":
            assert go_on.wait(30)
        real(index, name)

    monkeypatch.setattr(Index, "read", slowly)
    monkeypatch.setattr(shelf, "PATIENCE_SECONDS", 0.0)
    client = TestClient(make_app(book), base_url="http://127.0.0.1")
    desk = client.app.state.desk  # type: ignore[attr-defined]
    until = time.monotonic() + 30
    while "1 of 2 runs" not in client.get("/").text:
        assert time.monotonic() < until
        time.sleep(0.01)
    found = desk.shelf.summaries()
    assert (found["run_1"].val_loss, found["run_2"].val_loss) == (2.0, None)
    assert found["run_2"].state == "finished"
    still = client.get("/reading")
    assert "1 of 2" in still.text
    assert "hx-refresh" not in still.headers
    go_on.set()
    assert desk.shelf.summaries(whole=True)["run_2"].val_loss == 2.0
    done = client.get("/reading")
    assert (done.text, done.headers["hx-refresh"]) == ("", "true")
    assert "/reading" not in client.get("/").text


def test_what_was_read_once_shows_what_is_new_at_the_next_call(book: Path) -> None:
    run = make_run(book, "run_1", state=None)
    held = shelf.Shelf(book)
    assert held.summaries()["run_1"].step == 10
    for step in (11, 12, 13):
        with EventWriter(run, 1) as events:
            events.write("step", make_step(step))
        assert held.summaries()["run_1"].step == step
    make_run(book, "run_2")
    assert list(held.summaries()) == ["run_1", "run_2"]


def test_nothing_stays_of_a_run_that_was_removed(book: Path) -> None:
    run = make_run(book, "long", steps=3000)
    held = shelf.Shelf(book)
    held.measured(whole=True)
    assert kept_steps(book, "long").exists()
    shutil.rmtree(run.path)
    assert held.measured(whole=True) == {}
    assert not kept_steps(book, "long").exists()
    assert not held._readers


def test_polls_of_many_seeds_do_not_pile_up_and_the_newest_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(polls, "MOST_POLLS", 3)
    held = polls.Polls()
    words = [held.word_for(polls.Poll(("a", "b"), seed)) for seed in range(9)]
    assert held.find(words[-1]).seed == 8
    with pytest.raises(UsageError, match="too old"):
        held.find(words[0])
    assert len(held._polls) == len(held._words) == 3


def test_a_large_book_is_looked_at_beside_the_pages_and_what_they_write_is_there_at_once(
    book: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(book, "run_1", state=None)
    monkeypatch.setattr(shelf, "QUICK_SECONDS", -1.0)  # every look is taken for a long one
    monkeypatch.setattr(shelf, "STALE_SECONDS", 60.0)
    monkeypatch.setattr(shelf, "LOOKS_SHARE", 1e-9)
    held = shelf.Shelf(book)
    known = held.measured()
    with EventWriter(run, 1) as events:
        events.write("step", make_step(11))
    assert held.measured() is known
    assert known["run_1"][0].step == 10
    held._look_at = 0.0  # the time has come: a thread looks, and this call does not wait for it
    assert held.measured() is known
    until = time.monotonic() + 30
    while held.measured()["run_1"][0].step != 11:
        assert time.monotonic() < until
        time.sleep(0.01)
    with EventWriter(run, 1) as events:
        events.write("step", make_step(12))
    held.look_again()
    assert held.measured()["run_1"][0].step == 12


def test_whatever_nothing_happened_to_is_the_same_object(book: Path) -> None:
    make_run(book, "run_1")
    run = make_run(book, "run_2", state=None)
    held = shelf.Shelf(book)
    first = held.measured()
    assert held.measured() is first
    with EventWriter(run, 1) as events:
        events.write("step", make_step(11))
    second = held.measured()
    assert second is not first
    assert second["run_1"][0] is first["run_1"][0]
    assert second["run_2"][0].step == 11
    assert first["run_2"][0].step == 10
