from __future__ import annotations

import errno
import json
import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from made_runs import make_run, make_validation
from tunebook.book import summary as summary_module
from tunebook.book.events import EventWriter
from tunebook.book.index import Index, rebuild, run_summaries
from tunebook.book.places import RunFolder
from tunebook.errors import StorageError
from tunebook.pages.table import json_table


def index_of(book: Path) -> Path:
    return book / ".tunebook" / "index.db"


@pytest.fixture
def filled(book: Path) -> Path:
    make_run(book, "a", predict=("val_loss < b.val_loss",))
    make_run(book, "b", loss=float("nan"), predict=("no non_finite",))
    make_run(book, "c", extends="a", state=None)
    return book


def test_an_index_made_anew_gives_the_same_bytes(filled: Path) -> None:
    first = json_table(run_summaries(filled))
    warm = json_table(run_summaries(filled))
    index_of(filled).unlink()
    assert rebuild(filled) == 3
    assert first == warm == json_table(run_summaries(filled))
    assert '"NaN"' in first


def test_only_changed_runs_are_read_again(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_summaries(filled)
    read: list[str] = []
    real = summary_module.measure
    monkeypatch.setattr(
        summary_module, "measure", lambda run, *a: read.append(run.name) or real(run, *a)
    )
    run_summaries(filled)
    assert read == []

    with EventWriter(RunFolder(filled, "c"), 1) as events:
        events.write("validation", make_validation(11, 0.5))
    found = {s.name: s for s in run_summaries(filled)}
    assert read == ["c"]
    assert found["c"].val_loss == 0.5


def test_an_outcome_follows_the_run_it_is_compared_with(filled: Path) -> None:

    before = {s.name: s for s in run_summaries(filled)}
    assert before["a"].outcome == "0 of 1 held, 1 unknown"
    with EventWriter(RunFolder(filled, "b"), 1) as events:
        events.write("validation", make_validation(11, 9.0))
    after = {s.name: s for s in run_summaries(filled)}
    assert after["a"].outcome == "1 of 1 held"


def test_a_removed_run_leaves_the_list_and_the_index(filled: Path) -> None:
    import shutil

    run_summaries(filled)
    shutil.rmtree(filled / "runs" / "b")
    assert [s.name for s in run_summaries(filled)] == ["a", "c"]
    with sqlite3.connect(index_of(filled)) as connection:
        assert connection.execute("SELECT count(*) FROM runs").fetchone() == (2,)
    connection.close()


@pytest.mark.parametrize("damage", [b"", b"not a database at all, but long enough" * 50])
def test_a_broken_index_costs_nothing(filled: Path, damage: bytes) -> None:
    expected = json_table(run_summaries(filled))
    index_of(filled).write_bytes(damage)
    assert json_table(run_summaries(filled)) == expected
    assert json_table(run_summaries(filled)) == expected


def test_an_index_that_cannot_be_written_is_done_without(filled: Path) -> None:
    expected = json_table(run_summaries(filled))
    index_of(filled).unlink()
    index_of(filled).mkdir()
    assert json_table(run_summaries(filled)) == expected


def test_a_run_with_a_damaged_event_file_does_not_hide_the_others(filled: Path) -> None:
    path = next((filled / "runs" / "b" / "events").iterdir())
    path.write_bytes(b"rubbish\n")
    found = run_summaries(filled)
    assert [s.name for s in found] == ["a", "b", "c"]
    assert found[1].val_loss is None


def test_many_readers_and_writers_of_one_index_agree(filled: Path) -> None:
    expected = json_table(run_summaries(filled))

    def read(number: int) -> str:
        if number % 3 == 0:
            os.utime(filled / "runs" / "a" / "run.yaml", ns=(number, number))
        if number % 7 == 0:
            index_of(filled).unlink(missing_ok=True)
        return json_table(run_summaries(filled))

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(read, range(24))) == {expected}


def test_a_first_look_takes_the_last_attempt_whatever_the_clock_said(book: Path) -> None:
    run = make_run(book, "a", state="paused")
    (first,) = run.events.iterdir()
    earlier = first.rename(first.with_name("host-1.jsonl"))
    with EventWriter(run, 2) as writer:
        writer.write("state", {"state": "finished", "step": 3})
    os.utime(earlier, (4e9, 4e9))  # written before the clock went back
    index = Index(book)
    index.refresh()
    assert index.runs()["a"][0].state == "finished"


def test_an_index_kept_in_memory_reads_only_what_changed(
    filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = Index(filled)
    assert index.refresh() == ["a", "b", "c"]
    assert index.runs()["a"][0].val_loss is None
    assert [summary.state for summary, _ in index.runs().values()][:2] == ["finished"] * 2
    for name in ("a", "b", "c"):
        index.read(name)
    assert json_table([s for s, _ in index.runs().values()]) == json_table(run_summaries(filled))
    assert index.refresh() == []
    with EventWriter(RunFolder(filled, "c"), 1) as events:
        events.write("validation", make_validation(11, 0.5))
    assert index.refresh() == ["c"]
    assert index.runs()["c"][0].val_loss != 0.5
    index.read("c")
    assert index.runs()["c"][0].val_loss == 0.5


@pytest.mark.parametrize("line", [{"kind": ["a"]}, {"kind": "state", "state": {"a": 1}}, [1]])
def test_one_odd_line_hides_no_other_run(filled: Path, line: object) -> None:
    known = {s.name: s.state for s in run_summaries(filled)}
    (path,) = RunFolder(filled, "b").events.iterdir()
    if isinstance(line, dict):
        line = {"seq": 999, "attempt": 2, "time": "2026-01-01T00:00:00Z", **line}
    with path.open("ab") as file:
        file.write(json.dumps(line).encode() + b"\n")
    glanced = Index(filled)
    glanced.refresh()
    assert set(glanced.runs()) == set(known)
    found = {s.name: s for s in run_summaries(filled)}
    assert {name: found[name].state for name in "ac"} == {name: known[name] for name in "ac"}
    index_of(filled).unlink()
    unread = Index(filled)
    unread.refresh()
    assert unread.runs()["a"][0].state == "finished"


def test_why_the_disk_takes_no_index_is_said_in_the_systems_words(
    filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (filled / ".tunebook" / "index.db").unlink(missing_ok=True)
    real = os.open

    def on_a_read_only_disk(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        if str(path).endswith("index.db") and flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return real(path, flags, *rest, **more)

    def sqlite_says(*_: object) -> None:
        error = sqlite3.OperationalError("unable to open database file")
        error.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
        raise error

    monkeypatch.setattr(os, "open", on_a_read_only_disk)
    monkeypatch.setattr("tunebook.book.index_file._write", sqlite_says)
    with pytest.raises(StorageError, match=r"cannot be written: Read-only file system; "):
        rebuild(filled)
