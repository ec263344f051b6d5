"""The part of a model card that says what data the weights were trained on, and its licences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tunebook.book.licences import Licence
from tunebook.pages.card_lineage import Ancestor, hub_data, source_name, sources_of
from tunebook.pages.markdown import code, escape, table
from tunebook.units import format_count


def write_data(ancestors: Sequence[Ancestor], licences: Mapping[str, Licence | None]) -> str:
    """Write where the rows of every source went, of all runs that are in the weights."""
    rows = [row for one in ancestors for row in _rows(one, licences)]
    if not rows:
        return ""
    header = ["run", "source", "licence", "content", "rows in", "dropped", "rows out"]
    header += ["trained on", "target tokens"]
    right = [header[4], *header[6:]]
    if len(ancestors) == 1:
        header, rows = header[1:], [row[1:] for row in rows]
    return (
        f"## Data\n\n{table(header, rows, right=right)}\nA licence is what a card or LICENSE "
        "file beside the data states. `content` begins the sha256 of the files.\n"
    )


def licence_words(licence: Licence | None, otherwise: str) -> str:
    """Say a licence and which file states it."""
    return otherwise if licence is None else f"{licence.words} ({licence.told_by})"


def datasets_of(ancestors: Sequence[Ancestor]) -> list[str]:
    """List the data sets of the hub that the weights were trained on, each once."""
    paths = [str(s.get("path") or "") for one in ancestors for s in sources_of(one.data)]
    return list(dict.fromkeys(found[0] for path in paths if (found := hub_data(path))))


def _rows(one: Ancestor, licences: Mapping[str, Licence | None]) -> Iterator[list[str]]:
    for source in sources_of(one.data):
        path = str(source.get("path") or source.get("name") or "")
        dropped = source.get("dropped") or {}
        reasons = ", ".join(f"{format_count(n)} {escape(str(why))}" for why, n in dropped.items())
        counts = [count(source.get(k)) for k in ("rows_out", "train_rows", "target_tokens")]
        yield [
            code(one.name),
            escape(source_name(path)),
            escape(licence_words(licences.get(path), "not stated")),
            code(str(source.get("content_hash") or "")[:12]),
            count(source.get("rows_in")),
            reasons or "none",
            *counts,
        ]


def count(value: object) -> str:
    """Write a count; what was not counted is called not measured."""
    return format_count(value) if isinstance(value, int) else "not measured"
