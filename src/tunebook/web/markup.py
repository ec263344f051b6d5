"""Markdown and numbers as HTML in which no text of the book can become markup."""

from __future__ import annotations

import functools

from markdown_it import MarkdownIt
from markupsafe import Markup

from tunebook.units import (
    format_bytes,
    format_count,
    format_error,
    format_number,
    format_percent,
    format_seconds,
)


@functools.cache
def _reader() -> MarkdownIt:
    # `html: False` shows tags as text; images would ask other hosts for files, so they stay text.
    return MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")


def markdown(text: str) -> Markup:
    """Render Markdown; tags in it are shown, links that would run a script are left as text."""
    return Markup(_reader().render(text))


FILTERS = {
    "markdown": markdown,
    "number": format_number,
    "count": format_count,
    "bytes": format_bytes,
    "seconds": format_seconds,
    "percent": format_percent,
    "deviation": format_error,
}
"""What templates write values with, the same as everywhere."""
