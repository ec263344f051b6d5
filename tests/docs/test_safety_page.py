"""docs/safety.md says what was counted, of everything that is promised, and nothing else."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import safety_page  # noqa: E402


@pytest.fixture
def counts(tmp_path: Path) -> Path:
    return Path(shutil.copytree(safety_page.RESULTS, tmp_path / "safety"))


def test_the_page_is_what_the_counts_say() -> None:
    assert (ROOT / "docs" / "safety.md").read_text("utf-8") == safety_page.safety_markdown()


def test_another_count_is_another_page(counts: Path) -> None:
    path = counts / "R1.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"failed": 77}))
    assert "| 77 |" in safety_page.safety_markdown(counts)
    assert safety_page.safety_markdown(counts) != safety_page.safety_markdown()


@pytest.mark.parametrize(
    ("key", "value"),
    [("cases", "5000"), ("failed", None), ("mended", [1]), ("id", "R99"), ("seed", 0.5)],
)
def test_a_file_of_another_form_is_refused_by_name(counts: Path, key: str, value: object) -> None:
    path = counts / "R1.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(ValueError, match=r"R1\.json"):
        safety_page.read_results(counts)


def test_every_promise_names_a_test_that_is_there() -> None:
    rows = (*safety_page.GOALS, *safety_page.MUSTS)
    assert len(rows) == 21 + 10
    for row in rows:
        assert row.tests
        for test in row.tests:
            assert (ROOT / test).is_file(), (row.number, test)


def test_every_promise_of_runs_and_pages_has_a_count() -> None:
    counted = {one for found in safety_page.read_results() for one in found["id"].split(", ")}
    runs = {f"R{n}" for n in range(1, 11)}
    assert runs | {"G1", "G2", "G3", "W1", "W2", "W3", "J", "L", "6", "8", "10"} <= counted
