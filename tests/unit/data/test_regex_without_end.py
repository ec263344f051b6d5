"""A pattern of a stranger's run file neither goes on for ever nor fills the memory."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from tunebook.data.filters import regex
from tunebook.data.filters.regex import Regex
from tunebook.errors import DataError
from tunebook.records import Example, Message


def _row(text: str) -> Example:
    return Example("t#1", "t", (Message("text", text),))


def test_a_pattern_that_goes_back_for_ever_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regex, "SECONDS", 0.2)
    with pytest.raises(DataError, match=r"took 0.2 s for one row; let nothing repeat that repeats"):
        Regex(r"([a-z]+\s?)+!").rewrite(_row("a" * 60))
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)


@pytest.mark.parametrize(
    "filled", [{"pattern": "a", "replace": "b" * 1000}, {"pattern": "(?=(.*))", "replace": r"\1"}]
)
def test_a_pattern_that_makes_gigabytes_is_ended(
    filled: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(regex, "MAX_ROW_BYTES", 1 << 20)
    with pytest.raises(DataError, match="makes more than 1 MiB of one text"):
        Regex(**filled).rewrite(_row("a" * 3000))


def test_what_is_put_in_is_the_same_whether_it_is_counted_or_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    swapped = Regex(r"(\w*) ?(\w*)", r"\2\n\1")
    plain = swapped.rewrite(_row("one two  three"))
    monkeypatch.setattr(regex, "MAX_ROW_BYTES", 100)
    assert swapped.rewrite(_row("one two  three")) == plain
