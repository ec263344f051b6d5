"""The one sentence of a launcher whose training process could not say why it ended."""

from __future__ import annotations

from pathlib import Path

import pytest

from made_runs import make_run
from tunebook.book.events import EventWriter
from tunebook.errors import StorageError
from tunebook.workflows import launch, trainer


def test_a_disk_too_full_for_a_last_word_is_said_by_the_launcher(
    book: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(book, "a", state=None)
    monkeypatch.setattr(launch, "free_bytes", lambda _path: 4096)
    sentence, code = launch._how_it_ended(run, 1, None, 2, "paused: the disk is fu")
    assert code == 1
    assert sentence.startswith("run a paused: the disk is full: cannot write to ")
    assert sentence.endswith("free space and `tunebook resume a`")


def test_the_reason_of_an_earlier_attempt_is_not_told_again(book: Path) -> None:
    run = make_run(book, "a", state=None)
    with EventWriter(run, 2) as events:
        events.write("state", {"state": "paused", "reason": "the disk was full"})
    assert "the disk was full" in launch._how_it_ended(run, 1, None, 2, "")[0]
    assert launch._how_it_ended(run, 2, None, 3, "a\nlocked\n") == ("run a: locked", 2)


def test_a_last_state_is_written_even_where_the_log_takes_nothing(
    book: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        def write(self, _text: str) -> int:
            raise OSError(28, "No space left on device")

        def flush(self) -> None: ...

    run = make_run(book, "a", state=None)
    monkeypatch.setattr(trainer.sys, "stderr", Full())
    with EventWriter(run, 2) as events:
        assert trainer._end(events, "paused", "the disk was full", 1) == 1
    monkeypatch.undo()
    assert "the disk was full" in launch._how_it_ended(run, 1, None, 2, "")[0]


def test_a_read_only_run_folder_is_one_sentence(
    book: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(book, "a", state="paused")

    def refuse(_book: Path, path: Path, _how: str) -> None:
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr(launch, "open_to_write", refuse)
    with pytest.raises(StorageError, match=r"is read-only: cannot write .*train\.log; make it"):
        launch.train_in_child(run, lambda _kind, _payload: None)
