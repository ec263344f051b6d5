"""Find out what format a source has, and say why."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tunebook.data.rows import RawRow, read_rows
from tunebook.data.sources import Located, read_lines
from tunebook.errors import DataError
from tunebook.recipe.tree import Source

NEEDED: Mapping[str, tuple[str, ...]] = {
    "alpaca": ("instruction", "output"),
    "chat": ("messages",),
    "sharegpt": ("conversations",),
    "completion": ("prompt", "completion"),
    "text": ("text",),
}
"""The keys that a row of each JSON format must have; alpaca rows may have `input` too."""

OPTIONAL: Mapping[str, tuple[str, ...]] = {"alpaca": ("input",)}
_ALIASES: Mapping[str, Mapping[str, str]] = {
    "response": {"alpaca": "output", "completion": "completion"},
}
_LOOKED_AT_ROWS = 100
_LOOKED_AT_LINES = 200
_LINES_SHARE = 0.95
_TEXT_SHARE = 0.5
KEYWORD_LINE = re.compile(r"^[ \t]*([^\s:][^:\n]{0,79}?)[ \t]*:[ \t]+(\S.*)$")
_MAX_KEYWORD_WORDS = 6


@dataclass(frozen=True, slots=True)
class Detected:
    """A format, the sentence that says why, what was looked at, and the columns seen.

    `columns` are the file's own names in the order seen; `mapping` gives the own column of each
    needed name that has another name.
    """

    format: str
    reason: str
    looked_at: str
    columns: tuple[str, ...]
    mapping: Mapping[str, str]


def detect(located: Located, source: Source) -> Detected:
    """Detect the format of a source, or check the one that was named.

    Raises DataError when it is ambiguous, unknown, or a preference pair.
    """
    if located.kind == "text":
        return _detect_text(located, source)
    rows = list(itertools.islice(read_rows(located.files[0]), _LOOKED_AT_ROWS))
    looked_at = f"the first {len(rows)} rows of {located.files[0].path.name}"
    columns = tuple(dict.fromkeys(key for row in rows for key in row.values))
    first = rows[0]
    if source.format != "auto":
        mapping = _mapping(source, source.format)
        _require_keys(first, source.format, mapping)
        return Detected(source.format, "named in the run file", looked_at, columns, mapping)
    return _detect_rows(first, columns, looked_at, source)


def _detect_rows(
    first: RawRow, columns: tuple[str, ...], looked_at: str, source: Source
) -> Detected:
    fits = [name for name in NEEDED if _fits(name, first, source)]
    if {"chosen", "rejected"} <= set(first.values) and not source.columns:
        raise DataError(
            f"{first.place}: these are preference pairs (chosen, rejected), which tunebook does "
            "not train on; to train on one side say `format: completion` with `columns: "
            "{prompt: ..., completion: chosen}`"
        )
    if "text" in fits and len(fits) > 1:
        fits.remove("text")  # Many sets carry the rendered row beside its parts.
    if len(fits) > 1:
        raise DataError(
            f"{first.place}: the keys {_list(first.values)} fit {' and '.join(fits)}; say which, "
            f"as `format: {fits[0]}`"
        )
    if not fits:
        raise DataError(
            f"{first.place}: no known format has the keys {_list(first.values)}; tunebook reads "
            f"{_formats()}; name your own columns as `columns: {_example(first)}`"
        )
    found = fits[0]
    mapping = _mapping(source, found)
    needed = NEEDED[found]
    mapped = [f"{n} = {mapping[n]}" for n in needed if n in mapping]
    reason = f"rows have {' and '.join(needed)}" + (f" ({', '.join(mapped)})" if mapped else "")
    return Detected(found, reason, looked_at, columns, mapping)


def _fits(name: str, first: RawRow, source: Source) -> bool:
    mapped = {_ALIASES.get(key, {}).get(name, key) for key in source.columns}
    known = {*NEEDED[name], *OPTIONAL.get(name, ())}
    if not mapped <= known or not set(NEEDED[name]) <= set(first.values) | mapped:
        return False
    if name in ("chat", "sharegpt"):
        key = NEEDED[name][0]
        return isinstance(first.values.get(source.columns.get(key, key)), list)
    return True


def _mapping(source: Source, found: str) -> dict[str, str]:
    known = (*NEEDED[found], *OPTIONAL.get(found, ())) if found in NEEDED else ()
    mapping: dict[str, str] = {}
    for name, column in source.columns.items():
        canonical = _ALIASES.get(name, {}).get(found, name)
        if canonical not in known:
            raise DataError(
                f"{source.path}: columns: {name} is no column of format {found}; it has "
                f"{', '.join(known) or 'none'}"
            )
        mapping[canonical] = column
    return mapping


def _require_keys(row: RawRow, name: str, mapping: Mapping[str, str]) -> None:
    if name not in NEEDED:
        raise DataError(
            f"{row.file.path}: format {name} is for plain text files, and this holds JSON rows; "
            f"say one of {', '.join(NEEDED)}"
        )
    missing = [n for n in NEEDED[name] if mapping.get(n, n) not in row.values]
    if missing:
        raise missing_keys(row, name, mapping, missing)


def missing_keys(
    row: RawRow, name: str, mapping: Mapping[str, str], missing: Iterable[str]
) -> DataError:
    """Write the error of a row that lacks keys, with what it has and the way out."""
    wanted = [f"{mapping[n]!r} (for {n})" if n in mapping else repr(n) for n in missing]
    needed = ", ".join(NEEDED[name])
    return DataError(
        f"{row.place}: the row has no {' and no '.join(wanted)}; it has {_list(row.values)}, and "
        f"format {name} needs {needed}; name your own columns as `columns: "
        f"{{{NEEDED[name][-1]}: your_name}}`"
    )


def _detect_text(located: Located, source: Source) -> Detected:
    if source.columns:
        raise DataError(f"{source.path}: columns are for JSON rows, and this is plain text")
    if source.format not in ("auto", "text", "lines"):
        raise DataError(
            f"{source.path}: format {source.format} needs JSON rows, and this is plain text; say "
            "`format: text` or `format: lines`"
        )
    matching, seen = _count_keyword_lines(located)
    looked_at = f"the first {seen} lines of {located.files[0].path.name}"
    if source.format != "auto":
        return Detected(source.format, "named in the run file", looked_at, (), {})
    share = matching / seen
    if share >= _LINES_SHARE:
        reason = f"{matching} of {seen} lines read `keyword: text`"
        return Detected("lines", reason, looked_at, ("keyword", "text"), {})
    if share < _TEXT_SHARE:
        reason = f"plain text; {matching} of {seen} lines read `keyword: text`"
        return Detected("text", reason, looked_at, ("text",), {})
    raise DataError(
        f"{source.path}: {matching} of {seen} lines read `keyword: text`, too many for plain text "
        "and too few for lines; say `format: lines` or `format: text`"
    )


def _count_keyword_lines(located: Located) -> tuple[int, int]:
    matching = seen = 0
    for _, line in read_lines(located.files[0]):
        if not line.strip():
            continue
        seen += 1
        matching += split_keyword(line) is not None
        if seen == _LOOKED_AT_LINES:
            break
    if not seen:
        raise DataError(f"{located.files[0].path} is empty; put rows into it or leave it out")
    return matching, seen


def split_keyword(line: str) -> tuple[str, str] | None:
    """Split `keyword: text`; None when the line is not of that form."""
    found = KEYWORD_LINE.match(line.rstrip("\r\n"))
    if found is None or len(found[1].split()) > _MAX_KEYWORD_WORDS:
        return None
    return found[1], found[2]


def _formats() -> str:
    shown = [f"{name} ({', '.join(keys)})" for name, keys in NEEDED.items()]
    return ", ".join([*shown, "lines (`keyword: text`)"])


def _example(row: RawRow) -> str:
    """Suggest a mapping from what columns like these are mostly called."""
    keys = [key for key, value in row.values.items() if isinstance(value, str)]
    if "instruction" in keys and (answer := _first_of(("response", "answer"), keys)):
        return f"{{output: {answer}}}"
    asked = _first_of(("prompt", "question", "query", "instruction"), keys)
    answer = _first_of(("completion", "answer", "response", "output"), keys)
    if len(keys) < 2:
        return f"{{text: {keys[0] if keys else 'your_name'}}}"
    rest = [key for key in keys if key not in (asked, answer)]
    asked = asked or rest.pop(0)
    return f"{{prompt: {asked}, completion: {answer or rest.pop(0)}}}"


def _first_of(names: Iterable[str], keys: Iterable[str]) -> str | None:
    return next((name for name in names if name in keys), None)


def _list(values: Iterable[str]) -> str:
    keys = list(values)
    shown = ", ".join(keys[:12]) or "none"
    return f"{shown} and {len(keys) - 12} more" if len(keys) > 12 else shown
