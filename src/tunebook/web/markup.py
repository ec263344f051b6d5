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

_WORD = re.compile(r"\S+")
_TAG = re.compile(r"#[A-Za-z0-9][\w-]*")


def marked(text: str) -> Markup:
    """Show text with what stands between ⟦ and ⟧ marked."""
    parts = [
        Markup("<mark>{}</mark>{}").format(*inner.partition("⟧")[::2])
        for inner in text.split("⟦")[1:]
    ]
    return escape(text.partition("⟦")[0]) + Markup("").join(parts)


def commands(text: str) -> Markup:
    """Show text with what stands between backticks as commands."""
    parts = text.split("`")
    if len(parts) % 2 == 0:  # one backtick has no other
        return escape(text)
    shown = [
        Markup("<code>{}</code>").format(part) if place % 2 else escape(part)
        for place, part in enumerate(parts)
    ]
    return Markup("").join(shown)


def untagged(note: str) -> str:
    """Leave out the tags at the end of a note, where they are shown beside it."""
    # Word by word from the end: one pattern for all of them takes the square of a note's length.
    words = list(_WORD.finditer(note))
    while len(words) > 1 and _TAG.fullmatch(words[-1][0]):
        words.pop()
    return note[: words[-1].end()] if words else note


FILTERS = {
    "markdown": render,
    "marked": marked,
    "commands": commands,
    "untagged": untagged,
    "number": format_number,
    "count": format_count,
    "bytes": format_bytes,
    "seconds": format_seconds,
    "percent": format_percent,
    "deviation": format_error,
}
"""What templates write values with, the same as everywhere."""
