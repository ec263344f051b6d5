"""What every page shares: it opens, it is ours alone, and it is quiet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from made_runs import make_run

pytestmark = pytest.mark.browser


def test_the_table_of_runs_opens_and_shows_every_run(
    book: Path, open_book: Callable[..., object]
) -> None:
    make_run(book, "run_1")
    make_run(book, "run_2", loss=1.5)
    page = open_book(book)
    assert page.locator("tbody tr").count() == 2
    assert "run_2" in page.inner_text("main")
