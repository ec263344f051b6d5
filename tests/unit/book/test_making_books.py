"""A book is made whole, or not at all."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from tunebook.book import atomic
from tunebook.book.places import create_book
from tunebook.errors import StorageError


@pytest.mark.parametrize("room", [0, 1])
def test_a_book_that_found_no_room_leaves_nothing_and_is_made_once_there_is_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    folder = tmp_path / "home" / "book"
    folder.parent.mkdir()
    written = atomic.write_text

    def fill(path: Path, text: str) -> None:
        nonlocal room
        room -= 1
        if room < 0:
            path.touch()
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        written(path, text)

    with monkeypatch.context() as full:
        full.setattr(atomic, "write_text", fill)
        with pytest.raises(StorageError, match="the disk is full: cannot make the book"):
            create_book(folder)
    assert list(tmp_path.rglob("*")) == [folder.parent]
    create_book(folder)
    assert "*" in (folder / ".tunebook" / ".gitignore").read_text()


def test_what_was_in_a_folder_stays_when_no_book_can_be_made_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, text: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    (tmp_path / "notebook.md").write_text("mine")
    (tmp_path / "runs").mkdir()
    monkeypatch.setattr(atomic, "write_text", full)
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
