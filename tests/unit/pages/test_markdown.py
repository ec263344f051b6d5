from __future__ import annotations

import math

import pytest

from tunebook.pages.curve import draw_curve
from tunebook.pages.markdown import code, escape, fence, table


@pytest.mark.parametrize("text", ["plain", "```", "a ````` b\n```", "`"])
def test_no_text_breaks_out_of_its_fence(text: str) -> None:
    lines = fence(text, "text").splitlines()
    assert lines[0] == lines[-1] + "text"
    assert all(lines[-1] not in line for line in lines[1:-1])


def test_code_spans_and_cells_hold_what_would_end_them() -> None:
    assert code("a`b|c") == "``a`b\\|c``"
    assert code("`") == "`` ` ``"
    assert escape("a|b\n<script> *x* [y]") == r"a\|b \<script\> \*x\* \[y\]"


def test_a_table_is_aligned_in_its_source() -> None:
    text = table(["name", "n"], [["a", "1"], ["long one", "22"]], right=["n"])
    assert text.splitlines() == [
        "| name     |   n |",
        "| -------- | --: |",
        "| a        |   1 |",
        "| long one |  22 |",
    ]


def test_a_spike_of_one_step_stays_visible_among_thousands() -> None:
    losses = [2.0] * 5000
    losses[2500] = 9.0
    drawn = draw_curve(range(1, 5001), losses, [], width=60, height=12).splitlines()
    assert drawn[0].startswith("9.000 ┤")
    assert any(0x2800 <= ord(sign) <= 0x28FF for sign in drawn[0])
    assert max(map(len, drawn)) <= 60


def test_losses_that_are_not_finite_are_crosses_and_never_numbers() -> None:
    drawn = draw_curve([1, 2, 3], [2.0, math.nan, 1.0], [(3, 1.5), (2, math.inf)])
    assert "×" in drawn.splitlines()[0]
    assert "× not finite" in drawn
    assert draw_curve([1], [math.nan], []) == "no finite loss to draw"


def test_one_point_can_be_drawn() -> None:
    assert "step 1" in draw_curve([1], [2.0], [(1, 2.0)], width=20, height=5)
