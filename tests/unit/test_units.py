"""Numbers as people write them."""

from __future__ import annotations

import pytest

from tunebook.units import format_bytes, format_number, format_percent, format_seconds, shorten


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (1001 * 2**20, "1001 MiB"), (2**30, "1 GiB")],
)
def test_sizes_are_never_written_with_an_exponent(n_bytes: int, text: str) -> None:
    assert format_bytes(n_bytes) == text


def test_durations_are_written_in_two_units() -> None:
    assert [format_seconds(s) for s in (8.44, 185, 7620, 273600)] == [
        "8.4 s",
        "3 min 05 s",
        "2 h 07 min",
        "3 d 04 h",
    ]


def test_what_is_not_a_number_is_shown_as_such() -> None:
    assert [format_number(v) for v in (None, float("nan"), float("-inf"))] == ["", "NaN", "-inf"]


def test_a_very_small_share_stays_visible() -> None:
    assert format_percent(0.0001) == "<0.1 %"
    assert format_percent(0) == "0 %"


def test_a_long_text_is_repeated_in_part_and_says_so() -> None:
    assert shorten("short", 8) == "short"
    assert shorten("k" * 100, 8) == "kkkkk..."
    assert len(shorten("k" * 100)) == 80
