"""A page of a notebook is what is told of it, and the report of its twin."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

from tunebook.workflows.recipes import FoundRecipe, list_recipes

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def make_reports(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    return importlib.import_module("make_reports")


@pytest.fixture
def notebooks(tmp_path: Path) -> Path:
    (tmp_path / "notebooks" / "intro").mkdir(parents=True)
    (tmp_path / "notebooks" / "intro" / "quotes.md").write_text("# quotes\n\nTold.\n")
    return tmp_path / "notebooks"


def test_every_recipe_has_a_page(make_reports: ModuleType) -> None:
    assert {one.name for one in list_recipes()} <= set(make_reports.NAMES)


@pytest.mark.parametrize("recipe", list_recipes(), ids=lambda one: one.name)
def test_the_report_that_is_kept_answers_what_its_recipe_asks(recipe: FoundRecipe) -> None:
    kept = (ROOT / "docs/notebooks/reports" / f"{recipe.name}.md").read_text(encoding="utf-8")
    template = (recipe.folder / "report.md").read_text(encoding="utf-8")
    asked = [line for line in template.splitlines() if line.startswith("## ") and "{" not in line]
    assert asked
    assert [line for line in asked if line not in kept.splitlines()] == []


def test_a_report_stands_below_its_introduction_with_its_pictures(
    make_reports: ModuleType, notebooks: Path, tmp_path: Path
) -> None:
    assert "no twin that was run" in make_reports.page("quotes", notebooks)
    run = tmp_path / "book" / "runs" / "run_1"
    run.mkdir(parents=True)
    (run / "curve.svg").write_text("<svg/>")
    report = tmp_path / "book" / "report.md"
    words = (
        "# Quotes\n\n## Loss\n\n![Loss](runs/run_1/curve.svg)\n\n```sh\n# a comment\n## two\n```\n"
    )
    report.write_text(words)
    make_reports.keep_report("quotes", report, notebooks)
    page = make_reports.page("quotes", notebooks)
    assert page.startswith("# quotes\n\n<!-- Made by")
    assert page.index("Told.") < page.index("## The twin's report") < page.index("### Loss")
    assert "![Loss](images/quotes-run_1-curve.svg)" in page
    assert (notebooks / "images" / "quotes-run_1-curve.svg").read_text() == "<svg/>"
    assert "# a comment\n## two\n" in page
    assert "# Quotes" not in page


def test_a_report_with_a_place_of_this_machine_is_not_kept(
    make_reports: ModuleType, notebooks: Path, tmp_path: Path
) -> None:
    report = tmp_path / "report.md"
    for text in (f"It lies in {tmp_path}/runs.", "![Loss](gone.svg)"):
        report.write_text(text)
        with pytest.raises(SystemExit, match=r"report\.md"):
            make_reports.keep_report("quotes", report, notebooks)
    assert not (notebooks / "reports").exists()
