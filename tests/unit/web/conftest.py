"""What all tests of pages share."""

from __future__ import annotations

import pytest

from tunebook.web import shelf


@pytest.fixture(autouse=True)
def every_page_looks_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take each look at a book for a quick one: on a busy machine a page may be a moment behind."""
    monkeypatch.setattr(shelf, "QUICK_SECONDS", 60.0)
