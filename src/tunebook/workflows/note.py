"""Add the author's words to the pages of runs."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from datetime import date
from functools import partial
from pathlib import Path

from tunebook.book.liveness import is_alive
from tunebook.book.places import open_run
from tunebook.errors import TunebookError, UsageError
from tunebook.pages.run_page import build_run_page
from tunebook.workflows.notebook import change_page, write_page

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
        raise UsageError("the note is empty; write it in words, on a command line in quotes")
    for tag in tags:
        if not _TAG.match(tag):
            raise UsageError(f"the tag `{tag}` is not one word of letters, digits, dash and _")
    marks = "".join(f" #{tag}" for tag in tags)
    entry = f"- {day or date.today():%Y-%m-%d}: {line}{marks}\n"
    for run in runs:
        # Whoever changes a run builds its page, a trainer at the end; until then the note is first.
        if not run.notebook_md.exists() and not is_alive(run):
            # A run that cannot be read takes its note all the same, which may say why.
            with contextlib.suppress(TunebookError):
                write_page(book, run.notebook_md, build_run_page(run, book))
        change_page(book, run.notebook_md, partial(_append, entry))
    return [run.notebook_md for run in runs]


def _append(entry: str, page: str | None) -> str:
    gap = "" if not page or page.endswith("\n") else "\n"
    return f"{page or ''}{gap}{entry}"
