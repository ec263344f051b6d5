"""Markdown and numbers as HTML in which no text of the book can become markup."""

from __future__ import annotations

import re

from markupsafe import Markup, escape

from tunebook.units import (
    format_bytes,
    format_count,
    format_error,
    format_number,
    format_percent,
    format_seconds,
)
from tunebook.web.book_markdown import render

_TAGS_AT_END = re.compile(r"(?:\s+#[A-Za-z0-9][\w-]*)+$")


def marked(text: str) -> Markup:
    """Show text with what stands between ⟦ and ⟧ marked."""
    parts = [
        Markup("<mark>{}</mark>{}").format(*inner.partition("⟧")[::2])
        for inner in text.split("⟦")[1:]
    ]
    return escape(text.partition("⟦")[0]) + Markup("").join(parts)


def untagged(note: str) -> str:
    """Leave out the tags at the end of a note, where they are shown beside it."""
    return _TAGS_AT_END.sub("", note)


FILTERS = {
    "markdown": render,
    "marked": marked,
    "untagged": untagged,
    "number": format_number,
    "count": format_count,
    "bytes": format_bytes,
    "seconds": format_seconds,
    "percent": format_percent,
    "deviation": format_error,
}
"""What templates write values with, the same as everywhere."""
