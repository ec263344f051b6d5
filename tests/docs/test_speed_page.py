from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks" / "speed"))
    yield
    for name in ("record", "speed_page"):
        sys.modules.pop(name, None)


@pytest.mark.usefixtures("beside")
def test_a_missed_goal_is_said_and_a_reached_one_has_its_interval(tmp_path: Path) -> None:
    from record import Goal, write_result

    from speed_page import speed_markdown

    assert "Nothing has been measured yet" in speed_markdown(tmp_path)
    write_result(
        "some-case",
        title="A model, batch 8",
        command="python benchmarks/speed/compare.py --case some-case",
        settings={"batch": 8},
        columns=["contender", "tokens/s"],
        rows=[["tunebook", 1234.0], ["hf | peer", None]],
        notes=["hf stopped early."],
        goals=[Goal("faster", 2.5, 3.125, 3.0, 3.25), Goal("memory", 0.5, 0.75, at_most=True)],
        results=tmp_path,
    )
    page = speed_markdown(tmp_path)
    assert "1 of 2 reached" in page
    assert "| faster | 2.5 x         | 3.12 [3, 3.25] | reached" in page
    assert "| at most 0.5 x | 0.75           | **missed**" in page
    assert "hf \\| peer" in page
    assert "no result above is from one" in page
