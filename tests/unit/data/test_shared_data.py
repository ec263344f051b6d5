"""Every file of the real data is recognised, and its rows are accounted for to the last one."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from tunebook.data.detect import detect
from tunebook.data.examples import Reader
from tunebook.data.sources import locate
from tunebook.recipe.tree import Source

ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.shared_data


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    """The script that writes docs/data-table.md."""
    spec = importlib.util.spec_from_file_location("t", ROOT / "tools" / "make_data_table.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def table(tool: ModuleType, shared_data: Path) -> str:
    return str(tool.make_table(shared_data))


def examples(path, stage, **settings):
    source = Source(path=str(path), **settings)
    located = locate(source.path)
    return [r.example for r in Reader(located, detect(located, source), source, stage).examples()]


@pytest.mark.slow
def test_the_table_in_the_docs_is_what_the_tool_prints(table):
    assert (ROOT / "docs" / "data-table.md").read_text(encoding="utf-8") == table


def test_rows_are_those_that_the_readme_counts(table, shared_data):
    readme = (shared_data / "README.md").read_text(encoding="utf-8")
    stated = dict(re.findall(r"^\| `(\S+?)`[^|]*\|[^|]*\| ([\d,]+) \|", readme, re.MULTILINE))
    read = re.findall(r"^\| `(\S+)` \| (\S+) \| ([\d,]+) \|", table, re.MULTILINE)
    assert len(read) == 25
    for name, found, rows in read:
        if found != "text" or name.endswith(".jsonl.gz"):
            assert rows == stated[name], name


def test_what_is_refused_is_named(table):
    refused = re.findall(r"^\| `(\S+)` \| refused .*?: (?:these are|this is) (.*?) \(", table, re.M)
    assert dict(refused) == {
        "instruct/llms-from-scratch-preference-1100.json": "preference pairs",
        "judge/alpaca-7b-outputs.json.gz": "a model's answers to be judged",
        "judge/text_davinci_003-outputs.json.gz": "a model's answers to be judged",
        "judge/alpaca-7b-vs-davinci003-gpt4-annotations.json.gz": "a judge's verdicts on pairs of "
        "answers",
        "chess/openings.tsv.gz": "a table of chess openings",
        "chess/lichess-puzzles-1000.csv": "chess puzzles",
    }


def test_the_quotes_have_their_keywords_and_duplicates(shared_data):
    rows = examples(shared_data / "quotes" / "gptj-quotes-validation.csv.gz", "sft")
    said = [tuple(m.content for m in one.messages) for one in rows]
    assert len(said) == 7962
    assert len({keyword for keyword, _ in said}) == 31
    assert len(said) - len(set(said)) == 42
    assert not any("<|" in text for pair in said for text in pair)


@pytest.mark.parametrize(("name", "sections"), [("astronomy-2e", 199), ("university-physics", 322)])
def test_a_textbook_has_a_document_per_heading(shared_data, name, sections):
    path = shared_data / "physics" / f"{name}.txt.gz"
    assert len(examples(path, "cpt", document="heading")) == sections
