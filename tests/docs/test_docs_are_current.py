from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def make_docs() -> ModuleType:
    sys.path.insert(0, str(ROOT / "tools"))  # as when it is run as a script
    spec = importlib.util.spec_from_file_location("make_docs", ROOT / "tools" / "make_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["make_docs"] = module
    spec.loader.exec_module(module)
    return module


PAGES = [
    "fields.md",
    "commands.md",
    "filters.md",
    "safety.md",
    "defects.md",
    "verdicts.md",
    "speed.md",
]
PAGES += [f"notebooks/{name}.md" for name in "cosmosage quotes alpaca chess pygmalion".split()]


@pytest.mark.parametrize("page", PAGES)
def test_generated_page_is_what_the_code_says(make_docs: ModuleType, page: str) -> None:
    assert page not in make_docs.stale_pages(), f"docs/{page} is stale; run `make docs`"


def test_a_changed_page_is_noticed(
    make_docs: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(PAGES) == set(make_docs.PAGES)
    (tmp_path / "notebooks").mkdir()
    for name, write in make_docs.PAGES.items():
        (tmp_path / name).write_text(write(), encoding="utf-8")
    monkeypatch.setattr(make_docs, "DOCS", tmp_path)
    assert make_docs.stale_pages() == []
    (tmp_path / "fields.md").write_text("old", encoding="utf-8")
    assert make_docs.stale_pages() == ["fields.md"]


def test_a_defect_that_no_test_injects_is_said_to_be_missed(
    make_docs: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(make_docs, "ROOT", tmp_path)
    monkeypatch.setattr(make_docs, "DEFECT_TESTS", tmp_path)
    text = '@pytest.mark.defect(2, "random-base", "P")\ndef test_it(): ...\n'
    (tmp_path / "test_some.py").write_text(text, encoding="utf-8")
    page = make_docs.defects_markdown()
    assert "| `random-base` | plan | `test_some.py` |" in page
    assert page.count("not caught yet") == 26
    assert "1 of 27 are caught; not yet: 1, 3, 4," in page


def test_every_field_has_a_meaning() -> None:
    from tunebook.recipe.explain import list_fields

    assert [row.key for row in list_fields() if not row.meaning] == []


def test_every_decision_states_question_choice_rejected_and_why() -> None:
    pages = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert pages
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for part in ("**Question.**", "**Choice.**", "**Rejected.**", "**Why.**"):
            assert part in text, f"{page.name} lacks {part}"


def test_readme_names_files_that_exist() -> None:
    import re

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:src|docs|tools|tests)/[\w./-]+)`", readme)
    assert [name for name in named if not (ROOT / name).exists()] == []
