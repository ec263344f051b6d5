"""Add the author's words to the pages of runs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from tunebook.book.atomic import write_text
from tunebook.book.places import open_run
from tunebook.errors import UsageError
from tunebook.pages.run_page import build_run_page
from tunebook.workflows.notebook import read_page, write_page

_TAG = re.compile(r"^[A-Za-z0-9][\w-]*$")


def write_note(
    book: Path, names: Sequence[str], text: str, tags: Sequence[str] = (), day: date | None = None
) -> list[Path]:
    """Append a dated line below the generated part of each run's page and return the pages.

    Nothing is written when one of the runs does not exist.
    """
    runs = [open_run(book, name) for name in names]
    line = " ".join(text.split())
    if not line:
        raise UsageError("the note is empty; write it in quotes after the run names")
    for tag in tags:
        if not _TAG.match(tag):
            raise UsageError(f"the tag `{tag}` is not one word of letters, digits, dash and _")
    marks = "".join(f" #{tag}" for tag in tags)
    entry = f"- {day or date.today():%Y-%m-%d}: {line}{marks}\n"
    for run in runs:
        write_page(run.notebook_md, build_run_page(run, book))
        page = read_page(run.notebook_md) or ""
        gap = "" if page.endswith("\n") else "\n"
        write_text(run.notebook_md, f"{page}{gap}{entry}")
    return [run.notebook_md for run in runs]
