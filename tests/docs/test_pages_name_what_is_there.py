"""What pages name is there: commands with their options, fields of a run file, verdicts, tests."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from commands_named import commands_in, wrong_with

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
TABLE = DOCS / "capabilities.md"
PAGES = sorted([*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])
_ROW = re.compile(r"^\| (?!---|the author)(.+?) \| (.+?) \| (.*?) ?\|$", re.MULTILINE)


def rows_by_notebook() -> dict[str, list[tuple[str, str, str]]]:
    parts = re.split(r"^## ", TABLE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return {part.partition(":")[0]: _ROW.findall(part) for part in parts}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_command_of_a_page_is_one(page: Path) -> None:
    commands = commands_in(page.read_text(encoding="utf-8"))
    assert [wrong for wrong in map(wrong_with, commands) if wrong] == []


def test_a_command_that_is_none_is_told() -> None:
    text = (
        "`tunebook trian x`, `tunebook data show F --nothing`\n\n```\n$ tunebook runs --sort x\n```"
    )
    assert [bool(wrong_with(line)) for line in commands_in(text)] == [True, True, False]


def test_the_table_has_each_notebook_with_what_its_author_did() -> None:
    table = rows_by_notebook()
    assert list(table) == ["cosmosage", "quotes", "alpaca", "chess", "pygmalion"]
    assert min(len(rows) for rows in table.values()) >= 12
    assert sum(len(rows) for rows in table.values()) >= 60


def test_each_row_names_a_test_or_a_page_or_says_that_there_is_none() -> None:
    for notebook, rows in rows_by_notebook().items():
        for did, here, shown in rows:
            missing = "not built" in here
            assert missing or "](" in shown, f"{notebook}: {did}: nothing shows it"
            assert missing or "`" in here or "[" in shown, f"{notebook}: {did}: by what?"


def test_the_fields_verdicts_filters_and_findings_of_the_table_are_there() -> None:
    from tunebook.data.filters import FILTERS
    from tunebook.data.formats import FORMATS
    from tunebook.kinds import KINDS
    from tunebook.recipe.explain import list_fields
    from tunebook.recipe.finding_names import FINDING_NAMES

    fields = {row.key for row in list_fields()}
    named = {"field": fields, "filter": set(FILTERS), "format": set(FORMATS)}
    named |= {"verdict": set(KINDS), "finding": set(FINDING_NAMES)}
    found = Counter[str]()
    for rows in rows_by_notebook().values():
        for _, here, _ in rows:
            for word, names in re.findall(
                r"(filter|format|verdict|finding)s? ((?:`[^`]+`(?:, | and )?)+)", here
            ):
                for name in re.findall(r"`([^`]+)`", names):
                    assert name in named[word], f"there is no {word} {name}"
                    found[word] += 1
            for code in re.findall(r"`([^`]+)`", here):
                key = code.partition(":")[0]
                if re.fullmatch(r"(data\[\]|train|lora|relora|evaluate|validation)\.[\w.]+", key):
                    assert key in fields, f"there is no field {key}"
                    found["field"] += 1
    assert all(found[word] > 2 for word in named), found


def keys_of(values: object, prefix: str = "") -> list[str]:
    """Give the dotted keys of a piece of a run file, as docs/fields.md writes them."""
    found = []
    for key, value in values.items() if isinstance(values, dict) else ():
        found.append(f"{prefix}{key}")
        if isinstance(value, dict):
            found += keys_of(value, f"{prefix}{key}.")
        for one in value if isinstance(value, list) else ():
            found += keys_of(one, f"{prefix}{key}[].")
    return found


def test_the_run_files_that_pages_show_have_only_keys_that_there_are() -> None:
    from tunebook.recipe.explain import list_fields
    from tunebook.recipe.yaml_text import parse_yaml

    known = {row.key for row in list_fields()}
    top = {key for key in known if "." not in key}
    free = ("data[].columns", "data[].roles", "data[].filters", "data[].chess.tasks")
    seen = 0
    for page in PAGES:
        for block in re.findall(r"^```yaml\n(.*?)^```$", page.read_text(), re.M | re.S):
            values = parse_yaml(block, page.name).values
            if not set(values) <= top or "run" in values:
                continue  # a judge, a sweep, a book
            seen += 1
            for key in keys_of(values):
                if not key.startswith(free):
                    assert key in known, f"{page.name}: there is no key {key}"
    assert seen > 15


def test_ratios_of_speed_in_prose_are_those_that_were_measured() -> None:
    measured = (DOCS / "speed.md").read_text(encoding="utf-8")
    said = re.findall(r"([\d.]+)(?: to ([\d.]+))? times as fast", (DOCS / "why.md").read_text())
    numbers = [number for pair in said for number in pair if number]
    assert len(numbers) > 6
    for number in numbers:
        assert re.search(rf"\| {re.escape(number)} [\[(]", measured), f"nothing was {number} times"
