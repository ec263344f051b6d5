"""Places on an axis: every value has room, and the numbers beside it are round."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tunebook.pages.dots import axis_over


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=6))
def test_every_value_is_on_the_axis_and_few_numbers_beside_it(values: list[float]) -> None:
    axis = axis_over(values)
    assert axis is not None
    assert all(0 < axis.place(v) < 100 for v in values)
    assert axis.place(min(values)) <= axis.place(max(values))
    assert 1 <= len(axis.ticks()) <= 7


def test_numbers_on_an_axis_are_round_and_say_what_they_are() -> None:
    axis = axis_over([0.0, 1.0, float("nan"), None])
    assert axis is not None
    assert [text for _, text in axis.ticks()] == ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]
    assert axis_over([None]) is None
