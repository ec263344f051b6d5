"""Train and validation that share books (7)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tunebook.data.split import Split

Caught = Callable[..., Mapping[str, Any]]


def by_window(store: Any, numbers: Any, fraction: float) -> Split:
    """Hold out every so-manieth window of whatever book it is from."""
    held = np.arange(len(numbers)) % round(1 / fraction) == 0
    return Split(numbers[~held], numbers[held], None)


def write_books(write_data: Callable[..., Path], n: int) -> Path:
    for book in range(n):
        text = " ".join(f"On day {k} of book {book} gull {k * book} flew." for k in range(300))
        write_data(f"books/{book}.txt", text)
    return write_data("books/last.txt", "And so it ended. " * 300).parent


@pytest.mark.defect(7, "split-leak", "P")
def test_windows_of_one_book_on_both_sides_are_refused(
    caught: Caught, write_data: Callable[..., Path], write_run: Callable[..., Path]
) -> None:
    run_file = write_run(
        write_books(write_data, 8), stage="cpt", max_seq_len=128, validation={"fraction": 0.2}
    )
    found = caught(
        run_file,
        "split-leak",
        "refuse",
        lambda patch: patch.setattr("tunebook.data.sides.split_by_document", by_window),
    )
    assert found["evidence"]["documents"] > 1
    assert set(found["evidence"]["document_names"]) <= {*"01234567", "last"}


@pytest.mark.defect(7, "split-leak", "P")
def test_windows_of_a_single_book_are_split_at_one_place_or_refused(
    caught: Caught, write_data: Callable[..., Path], write_run: Callable[..., Path]
) -> None:
    text = " ".join(f"On day {k} the sailor saw {k * 7} gulls." for k in range(900))
    run_file = write_run(
        write_data("book.txt", text), stage="cpt", max_seq_len=128, validation={"fraction": 0.2}
    )
    caught(
        run_file,
        "split-leak",
        "refuse",
        lambda patch: patch.setattr("tunebook.data.sides.split_by_document", by_window),
    )
