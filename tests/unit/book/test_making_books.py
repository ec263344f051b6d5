"""A book is made whole, or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tunebook.book.places import create_book
from tunebook.errors import StorageError


def refuse(room: int) -> Callable[[object], None]:
    """Give an `os.fsync` of a disk that takes so many files more."""
    left = [room]

    def sync(_file: object) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")

    return sync


@pytest.mark.parametrize("room", [0, 1, 2, 3])
def test_a_book_that_found_no_room_leaves_nothing_and_is_made_once_there_is_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    folder = tmp_path / "home" / "book"
    folder.parent.mkdir()
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", refuse(room))
        with pytest.raises(StorageError, match="the disk is full"):
            create_book(folder)
    assert list(tmp_path.rglob("*")) == [folder.parent]
    create_book(folder)
    assert "*" in (folder / ".tunebook" / ".gitignore").read_text()


def test_what_was_in_a_folder_stays_when_no_book_can_be_made_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "notebook.md").write_text("mine")
    (tmp_path / "runs").mkdir()
    monkeypatch.setattr(os, "fsync", refuse(0))
    with pytest.raises(StorageError):
        create_book(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notebook.md", "runs"]
    assert (tmp_path / "notebook.md").read_text() == "mine"


def test_a_book_with_an_empty_list_for_git_gets_it_again(tmp_path: Path) -> None:
    hidden = tmp_path / "book" / ".tunebook"
    hidden.mkdir(parents=True)
    (hidden / ".gitignore").touch()
    create_book(tmp_path / "book")
    assert "*" in (hidden / ".gitignore").read_text()
