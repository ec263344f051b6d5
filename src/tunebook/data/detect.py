"""Find out what format a source has, and say why."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tunebook.data.bad_files import all_blank
from tunebook.data.chess.pgn import MOVETEXT
from tunebook.data.columns import check_columns, perhaps_a_row
from tunebook.data.documents import is_heading
from tunebook.data.formats import FORMATS, SHAPES, Shape, persona, shapes_of
from tunebook.data.formats.broken import columns_advice, list_keys, missing_keys
from tunebook.data.formats.lines import split_keyword
from tunebook.data.formats.refused import refuse_known
from tunebook.data.formats.shape import DOCUMENT, stated_document
from tunebook.data.rows import RawRow, read_rows
from tunebook.data.sources import Located, read_lines
from tunebook.errors import DataError
from tunebook.recipe.tree import Source

_LOOKED_AT_ROWS = 100
_LOOKED_AT_LINES = 200
_LINES_SHARE = 0.95
_TEXT_SHARE = 0.5
_TEXT_FORMATS = ("text", "lines")


@dataclass(frozen=True, slots=True)
class Detected:
    """A format, the sentence that says why, what was looked at, and the columns seen.

    `columns` are the file's own names in the order seen; `mapping` gives the own column of each
    needed name that has another name. `shape` is the place among the format's shapes.
    """

    format: str
    reason: str
    looked_at: str
    columns: tuple[str, ...]
    mapping: Mapping[str, str]
    shape: int = 0


def detect(located: Located, source: Source) -> Detected:
    """Detect the format of a source, or check the one that was named.

    Raises DataError when it is ambiguous, unknown, or known and not for training.
    """
    if located.kind == "text":
        return _detect_text(located, source)
    rows = list(itertools.islice(read_rows(located.files[0]), _LOOKED_AT_ROWS))
    looked_at = f"the first {len(rows)} rows of {located.files[0].path.name}"
    columns = tuple(dict.fromkeys(key for row in rows for key in row.values))
    first = rows[0]
    check_columns(first, columns, source)
    if located.kind == "pgn":
        _require_pgn(source)
    if source.format != "auto":
        shape, mapping = _named_shape(first, source)
        reason = f"as named; {_reason(shape, mapping, columns)}"
    else:
        shape, mapping = _found_shape(first, source)
        reason = _reason(shape, mapping, columns)
    if shape.build is persona.build:
        reason += f"; {persona.say_roles(rows, mapping, source)}"
    named = mapping.get(DOCUMENT, DOCUMENT)
    if DOCUMENT in shape.optional and any(stated_document(r, shape, mapping) for r in rows):
        # It stands in the mapping so that tokens made without it are not taken for these.
        mapping = {**mapping, DOCUMENT: named}
        reason += f"; rows of the same {named} stay together"
    place = shapes_of(shape.format).index(shape)
    names = {MOVETEXT: "moves", "": "(no name)"}
    shown = tuple(names.get(key, key) for key in columns)
    return Detected(shape.format, reason, looked_at, shown, mapping, place)


def _reason(shape: Shape, mapping: Mapping[str, str], columns: Sequence[str]) -> str:
    if shape.format == "pgn":
        return "games in PGN"
    names = [*shape.needed, *(n for n in shape.optional if n in mapping)]
    own = [f"{mapping[n]} (as {n})" if mapping.get(n, n) != n else n for n in names]
    *most, last = own
    reason = f"rows have {', '.join(most)} and {last}" if most else f"rows have {last}"
    if shape.about:
        reason += f"; {shape.about}"
    used = {mapping.get(n, n) for n in shape.known}
    unused = [key for key in columns if key not in used and key]
    if unused and shape.format != "chess-uci":
        reason += f"; not read: {list_keys(unused)}"
    return reason


def _found_shape(first: RawRow, source: Source) -> tuple[Shape, dict[str, str]]:
    if not source.columns:
        refuse_known(first)
    fits = [
        (shape, mapping)
        for shape in SHAPES
        if (mapping := _mapping(shape, source.columns)) is not None and _fits(shape, first, mapping)
    ]
    fits = _most_telling(fits)
    formats = list(dict.fromkeys(shape.format for shape, _ in fits))
    if len(formats) > 1:
        raise DataError(
            f"{first.place}: the keys {list_keys(first.values)} fit {' and '.join(formats)}; say "
            f"which, as `format: {formats[0]}`"
        )
    if not fits:
        _require_mapped(first, source)
        raise DataError(
            f"{first.place}: no known format has the keys {list_keys(first.values)}; tunebook "
            f"reads {_formats()}; {perhaps_a_row(first)}name your own columns as "
            f"{columns_advice(_example(first))}"
        )
    return fits[0]


def _require_mapped(first: RawRow, source: Source) -> None:
    """Name the column of the run file that a row lacks, if it would fit but for that."""
    for shape in SHAPES:
        mapping = _mapping(shape, source.columns)
        if not source.columns or mapping is None:
            continue
        missing = [n for n in shape.needed if mapping.get(n, n) not in first.values]
        stated = {shape.aliases.get(name, name) for name in source.columns}
        if missing and set(missing) <= stated:
            raise missing_keys(first, shape.format, mapping, missing)


def _most_telling(
    fits: list[tuple[Shape, dict[str, str]]],
) -> list[tuple[Shape, dict[str, str]]]:
    """Leave out plain text beside anything else, and what needs a part of what another needs."""
    # Many sets carry the rendered row beside its parts.
    others = [fit for fit in fits if fit[0].format != "text"] or fits
    wanted = [{mapping.get(n, n) for n in shape.needed} for shape, mapping in others]
    return [
        fit
        for fit, keys in zip(others, wanted, strict=True)
        if not any(keys < more for more in wanted)
    ]


def _fits(shape: Shape, first: RawRow, mapping: Mapping[str, str]) -> bool:
    return {mapping.get(n, n) for n in shape.needed} <= set(first.values) and shape.fits(
        first.values, mapping
    )


def _mapping(shape: Shape, columns: Mapping[str, str]) -> dict[str, str] | None:
    """Give the own column of each name; None when the shape has no such name."""
    mapping = dict(shape.columns)
    for name, column in columns.items():
        canonical = shape.aliases.get(name, name)
        if canonical not in shape.known:
            return None
        mapping[canonical] = column
    return mapping


def _named_shape(first: RawRow, source: Source) -> tuple[Shape, dict[str, str]]:
    name = source.format
    shapes = list(shapes_of(name))
    if name == "pgn" and first.file.kind != "pgn":
        # Games in PGN are files; only questions that were written are rows of this format.
        shapes = [s for s in shapes if s.needed != (MOVETEXT,) and _fits(s, first, {})]
    if not shapes:
        raise DataError(
            f"{first.file.path}: format {name} is for files of its own kind, and this holds rows; "
            f"say one of {', '.join(f for f in FORMATS if f != name)}"
        )
    mapped = [(s, mapping) for s in shapes if (mapping := _mapping(s, source.columns)) is not None]
    if not mapped:
        unknown = next(
            n for n in source.columns if all(s.aliases.get(n, n) not in s.known for s in shapes)
        )
        known = ", ".join(dict.fromkeys(n for s in shapes for n in s.known))
        raise DataError(
            f"{source.path}: columns: {unknown} is no column of format {name}; it has {known}"
        )
    if fits := _most_telling([fit for fit in mapped if _fits(fit[0], first, fit[1])]):
        return fits[0]
    shape, mapping = mapped[0]
    missing = [n for n in shape.needed if mapping.get(n, n) not in first.values]
    if missing:
        raise missing_keys(first, name, mapping, missing)
    return shape, mapping


def _require_pgn(source: Source) -> None:
    if source.format not in ("auto", "pgn"):
        raise DataError(
            f"{source.path}: format {source.format} is for other files, and this holds games in "
            "PGN; say `format: pgn` or leave it out"
        )
    if source.columns:
        raise DataError(f"{source.path}: columns are for rows, and this holds games in PGN")


def _detect_text(located: Located, source: Source) -> Detected:
    if source.columns:
        raise DataError(f"{source.path}: columns are for rows, and this is plain text")
    if source.format not in ("auto", *_TEXT_FORMATS):
        raise DataError(
            f"{source.path}: format {source.format} needs rows (json, jsonl, csv, parquet), and "
            "this is plain text; say `format: text` or `format: lines`"
        )
    matching, headings, seen = _count_lines(located)
    looked_at = f"the first {seen} lines of {located.files[0].path.name}"
    if source.format != "auto":
        return Detected(source.format, "as named", looked_at, (), {})
    share = matching / seen
    if share >= _LINES_SHARE:
        reason = f"{matching} of {seen} lines read `keyword: text`"
        return Detected("lines", reason, looked_at, ("keyword", "text"), {})
    if share < _TEXT_SHARE:
        reason = f"plain text; {matching} of {seen} lines read `keyword: text`"
        if headings > 1 and source.document == "auto":
            reason += (
                f", and {headings} begin with `# `: with `document: heading` each begins a document"
            )
        return Detected("text", reason, looked_at, ("text",), {})
    raise DataError(
        f"{source.path}: {matching} of {seen} lines read `keyword: text`, too many for plain text "
        "and too few for lines; say `format: lines` or `format: text`"
    )


def _count_lines(located: Located) -> tuple[int, int, int]:
    """Count the first lines that are `keyword: text`, that are headings, and all of them."""
    matching = headings = seen = blank = 0
    for _, line in read_lines(located.files[0]):
        if not line.strip():
            blank += 1
            continue
        seen += 1
        matching += split_keyword(line) is not None
        headings += is_heading(line)
        if seen == _LOOKED_AT_LINES:
            break
    if not seen:
        raise all_blank(located.files[0].path, blank)
    return matching, headings, seen


def _formats() -> str:
    shown = dict[str, str]()
    for shape in SHAPES:
        if shape.format != "pgn":
            shown.setdefault(shape.format, f"{shape.format} ({', '.join(shape.needed)})")
    return ", ".join([*shown.values(), "pgn"])


def _example(row: RawRow) -> dict[str, str]:
    """Suggest a mapping from what columns like these are mostly called."""
    keys = [key for key, value in row.values.items() if isinstance(value, str)]
    if "instruction" in keys and (answer := _first_of(("response", "answer"), keys)):
        return {"output": answer}
    asked = _first_of(("prompt", "question", "query", "instruction"), keys)
    answer = _first_of(("completion", "answer", "response", "output"), keys)
    if len(keys) < 2:
        return {"text": keys[0] if keys else "your_name"}
    rest = [key for key in keys if key not in (asked, answer)]
    asked = asked or rest.pop(0)
    return {"prompt": asked, "completion": answer or rest.pop(0)}


def _first_of(names: Iterable[str], keys: Iterable[str]) -> str | None:
    return next((name for name in names if name in keys), None)
