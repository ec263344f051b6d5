"""Write docs/data-table.md: what every file of a data folder is taken for.

    python tools/make_data_table.py ../shared/data > docs/data-table.md

Files come in the order of the folder's README. It holds names and counts only, no row of the data.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from tunebook.data.detect import detect
from tunebook.data.examples import Reader
from tunebook.data.sources import locate
from tunebook.errors import DataError
from tunebook.recipe.tree import Source
from tunebook.units import format_count

_NAMED = re.compile(r"^\| `([^`]+)`", re.MULTILINE)
_NOT_DATA = ("tokenizers/", "models/")

HEAD = """# What each file of the shared data is taken for

Made by `tools/make_data_table.py`; a test compares it with what the tool prints. Every file is read
with `format: auto` and no other setting. *Rows* are what the file has (of plain text: documents, by
default the whole file), *examples* what they become; of a talk each answer is one. *Without answer*
counts examples that have nothing to train on; they are dropped with that reason, and counted.

| file | format | rows | examples | without answer | why |
|---|---|---:|---:|---:|---|
"""


def list_data(folder: Path) -> Iterator[str]:
    """Yield the data files that the README of a folder names, in its order; globs stay globs."""
    for name in _NAMED.findall((folder / "README.md").read_text(encoding="utf-8")):
        if "/" in name and not name.startswith(_NOT_DATA):
            yield name


def describe(folder: Path, name: str) -> str:
    """Write one line of the table."""
    source = Source(path=str(folder / name))
    try:
        located = locate(source.path)
        found = detect(located, source)
        stage = "cpt" if found.format == "text" else "sft"
        rows, examples, silent = set[tuple[int, int]](), 0, 0
        for read in Reader(located, found, source, stage).examples():
            rows.add((read.file, read.row))
            examples += 1
            silent += all(m.role not in ("assistant", "text") for m in read.example.messages)
    except DataError as error:
        why = str(error).replace(f"{folder}/{name}", "").lstrip(", ")
        return f"| `{name}` | refused | | | | {_cell(why)} |\n"
    counts = " | ".join(format_count(n) for n in (len(rows), examples, silent))
    return f"| `{name}` | {found.format} | {counts} | {_cell(found.reason)} |\n"


def make_table(folder: Path) -> str:
    """Write the whole page."""
    return HEAD + "".join(describe(folder, name) for name in list_data(folder))


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<\\|endoftext\\|>", "`<\\|endoftext\\|>`")


if __name__ == "__main__":
    sys.stdout.write(make_table(Path(sys.argv[1])))
