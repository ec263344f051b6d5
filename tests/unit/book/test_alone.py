"""A lock that a halted process keeps is said in a sentence and waited for no longer."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tunebook.book import atomic
from tunebook.book.atomic import alone
from tunebook.errors import StorageError


def test_a_lock_that_is_never_let_go_ends_the_wait_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic, "PATIENCE_SECONDS", 0.05)
    told: list[str] = []

    def wait() -> None:
        try:
            with alone(tmp_path / "pages.lock"):
                pass
        except StorageError as error:
            told.append(str(error))

    with alone(tmp_path / "pages.lock"):
        other = threading.Thread(target=wait, daemon=True)
        other.start()
        other.join(10)
    assert "another process has held" in "".join(told)
