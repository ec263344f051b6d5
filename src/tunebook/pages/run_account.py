"""The part of a run's page that says what it was trained on: every row accounted for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunebook.book.events import Events
from tunebook.pages.markdown import code, escape, fence, table
from tunebook.units import format_count, format_percent

_COUNTS = (
    ("rows in", "rows_in"),
    ("out", "rows_out"),
    ("train", "train_rows"),
    ("held out", "validation_rows"),
    ("cut", "cut_rows"),
    ("tokens cut", "cut_tokens"),
    ("tokens", "tokens"),
    ("target tokens", "target_tokens"),
)
_BATCH_ROWS = 4
_BATCH_SIGNS = 1200


def write_account(data: Mapping[str, Any]) -> str:
    """Write where every row of every source went."""
    sources = [source for source in data.get("sources") or [] if isinstance(source, Mapping)]
    if not sources:
        return ""
    header = ["source", *(title for title, _ in _COUNTS[:1]), "dropped"]
    header += [title for title, _ in _COUNTS[1:]]
    rows = [
        [escape(str(source.get("name"))), _count(source, "rows_in"), _dropped(source)]
        + [_count(source, key) for _, key in _COUNTS[1:]]
        for source in sources
    ]
    right = [title for title, _ in _COUNTS]
    parts = ["## What it was trained on\n", table(header, rows, right=right)]
    parts += [_source_line(source) for source in sources]
    parts.append(_template(data.get("template")))
    parts += [f"- {escape(str(note))}" for note in data.get("notes") or []]
    return "\n".join(part for part in parts if part) + "\n"


def _count(source: Mapping[str, Any], key: str) -> str:
    value = source.get(key)
    return format_count(value) if isinstance(value, int) else ""


def _dropped(source: Mapping[str, Any]) -> str:
    dropped = source.get("dropped")
    if not isinstance(dropped, Mapping) or not dropped:
        return "none"
    return ", ".join(f"{format_count(n)} {escape(str(why))}" for why, n in dropped.items())


def _source_line(source: Mapping[str, Any]) -> str:
    share = ""
    tokens, target = source.get("tokens"), source.get("target_tokens")
    if isinstance(tokens, int) and isinstance(target, int) and tokens:
        share = f"; {format_percent(target / tokens)} of its tokens carry loss"
    digest = str(source.get("content_hash") or "")[:12]
    line = (
        f"- {code(str(source.get('path')))}: {escape(str(source.get('format')))}, content "
        f"{code(digest)}{share}"
    )
    notes = "".join(f"; {escape(str(note))}" for note in source.get("notes") or [])
    return f"{line}{notes}"


def _template(template: object) -> str:
    if template is None:
        return ""
    text = str(template)
    if "\n" in text or len(text) > 80:
        return f"- rendered with this template:\n\n{fence(text, 'text')}"
    return f"- rendered with the template {code(text)}"


def write_first_batch(events: Events) -> str:
    """Write the first rows as the model saw them, target tokens between ⟦ and ⟧."""
    rows = events.fact("first_batch")
    rows = [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []
    if not rows:
        return ""
    shown = rows[:_BATCH_ROWS]
    text = "\n\n".join(f"{row.get('example')}\n{_short(str(row.get('text')))}" for row in shown)
    return (
        "### The first rows, as the model saw them\n\nTokens between ⟦ and ⟧ carry loss.\n\n"
        f"{fence(text, 'text')}"
    )


def _short(text: str) -> str:
    if len(text) <= _BATCH_SIGNS:
        return text
    return f"{text[:_BATCH_SIGNS]} … ({format_count(len(text) - _BATCH_SIGNS)} more characters)"
