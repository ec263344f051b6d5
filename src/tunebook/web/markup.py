"""Markdown and numbers as HTML in which no text of the book can become markup."""

from __future__ import annotations

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


def marked(text: str) -> Markup:
    """Show text with what stands between ⟦ and ⟧ marked."""
    parts = [
        Markup("<mark>{}</mark>{}").format(*inner.partition("⟧")[::2])
        for inner in text.split("⟦")[1:]
    ]
    return escape(text.partition("⟦")[0]) + Markup("").join(parts)


FILTERS = {
    "markdown": render,
    "marked": marked,
    "number": format_number,
    "count": format_count,
    "bytes": format_bytes,
    "seconds": format_seconds,
    "percent": format_percent,
    "deviation": format_error,
}
"""What templates write values with, the same as everywhere."""
