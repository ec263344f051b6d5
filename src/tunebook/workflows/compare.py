"""Compare scores item by item."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import pstdev
from typing import Any

from tunebook.errors import DataError, UsageError
from tunebook.records import Comparison, Estimate, ItemScore
from tunebook.statistics.compare import DEFAULT_MARGIN, compare_many
from tunebook.statistics.estimate import ratio_estimate


@dataclass(frozen=True, slots=True)
class Compared:
    """Each subject's own score, and every pair of them, the first minus the second.

    `notes` are sentences on what the verdicts rest on.
    """

    estimates: dict[str, Estimate]
    pairs: dict[tuple[str, str], Comparison]
    notes: tuple[str, ...] = ()


def compare_files(
    paths: Sequence[Path], *, margin: float | None = None, shared_only: bool = False
) -> Compared:
    """Compare files of scores; DataError for one that cannot be read or is not as long as others.

    A file is a JSON list of numbers (paired by place), a JSON list of objects with `id` and
    `score` (paired by id), or the .jsonl of an evaluation. `null` is a missing score. `margin` None
    is 3 points of 100: 3, or 0.03 where all scores lie between 0 and 1.
    """
    if len(paths) < 2:
        raise UsageError("give two or more files of scores, such as a.json b.json")
    rows: dict[str, list[ItemScore]] = {}
    for place, path in enumerate(paths, start=1):
        rows[f"{path} ({place})" if str(path) in rows else str(path)] = read_scores(path)
    _check_lengths(rows)
    by_file = {
        name: [
            line.value / line.n_units
            for line in lines
            if line.value is not None and line.n_units > 0
        ]
        for name, lines in rows.items()
    }
    scores = [score for found in by_file.values() for score in found]
    scale = _scale(scores)
    if margin is None:
        margin = DEFAULT_MARGIN / 100 if scale == (0, 1) else DEFAULT_MARGIN
    pairs = compare_many(rows, margin=margin, shared_only=shared_only, scale=scale)
    notes = _other_scales(by_file)
    spread = pstdev(scores)
    if 0 < spread < margin:
        notes.append(
            f"the margin of {margin:g} is wider than the scores vary among themselves "
            f"(SD {spread:.2g}), so that equivalent says little; give --margin"
        )
    estimates = {name: ratio_estimate(lines) for name, lines in rows.items()}
    return Compared(estimates, pairs, tuple(notes))


def _scale(scores: Sequence[float]) -> tuple[float, float] | None:
    """Guess what the scores could have been: 0 to 1 or to 100; None where one is outside."""
    scales = ((0.0, 1.0), (0.0, 100.0))
    return next((s for s in scales if all(s[0] <= score <= s[1] for score in scores)), None)


def _other_scales(by_file: dict[str, list[float]]) -> list[str]:
    """Say which files look like shares beside others that look like points of 100."""
    # Nothing but zeros fits either scale.
    scales = {name: _scale(scores) for name, scores in by_file.items() if any(scores)}
    shares, points = (
        ", ".join(name for name, scale in scales.items() if scale == (0, most)) for most in (1, 100)
    )
    if not shares or not points:
        return []
    return [
        f"{shares} (all from 0 to 1) and {points} (up to 100) look like different scales; if they "
        "are, bring them to one scale first"
    ]


def read_scores(path: Path) -> list[ItemScore]:
    """Read a file of scores; DataError names the file and what is wrong with it."""
    try:
        text = path.read_text("utf-8")
        lines = text.splitlines()
        parsed = (
            [_parse(line) for line in lines if line.strip()]
            if path.suffix == ".jsonl"
            else _parse(text)
        )
    except OSError as failure:
        raise DataError(f"cannot read {path}: {failure.strerror}; give a file of scores") from None
    except (ValueError, RecursionError) as failure:
        raise DataError(f"{path} is not JSON of scores: {failure}") from None
    if not isinstance(parsed, list):
        raise DataError(f"{path} holds no list; write scores as [71, 64.5, null, ...]")
    is_log = bool(parsed) and path.suffix == ".jsonl" and _is_head(parsed[0])
    if is_log:
        parsed = parsed[1:]
    if not parsed:
        raise DataError(f"{path} holds no scores; write them as [71, 64.5, null, ...]")
    rows = [_row(path, place, entry) for place, entry in enumerate(parsed, start=1)]
    if is_log:  # what was asked again is told by its newer line
        return list({(row.item_id, row.item_hash, row.repeat): row for row in rows}.values())
    return rows


def _parse(text: str) -> Any:
    def refuse(word: str) -> float:
        raise ValueError(f"{word} is no score; write a missing one as null")

    return json.loads(text, parse_constant=refuse)


def _is_head(line: object) -> bool:
    """Tell the first line of an evaluation, which holds its settings, from its items."""
    return isinstance(line, dict) and "format_version" in line


def _row(path: Path, place: int, entry: object) -> ItemScore:
    if not isinstance(entry, dict):
        # A place can stand for an item only among plain numbers: the prefix keeps ids apart.
        return ItemScore(f"#{place}", "", str(path), _number(path, place, entry))
    if "item_id" in entry:
        entry = {"id": entry["item_id"], "score": entry.get("value"), **entry}
    if not isinstance(entry.get("id"), (str, int)) or "score" not in entry:
        raise DataError(
            f'{path}: entry {place} has no id and score; write {{"id": "q1", "score": 71}}'
        )
    return ItemScore(
        item_id=str(entry["id"]),
        item_hash=str(entry.get("item_hash", "")),
        run=str(path),
        value=_number(path, place, entry["score"]),
        n_units=_number(path, place, entry.get("n_units", 1)) or 0,
        cluster=str(entry.get("cluster", "")),
        repeat=int(_number(path, place, entry.get("repeat", 0)) or 0),
    )


def _number(path: Path, place: int, value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        number = float(value) if abs(value) < 1e150 else math.inf  # its square must fit
        if math.isfinite(number):
            return number
    shown = json.dumps(value)[:40]
    raise DataError(f"{path}: score {place} is {shown}, not a number; write a missing one as null")


def _check_lengths(rows: dict[str, list[ItemScore]]) -> None:
    """Refuse plain lists of unequal length: what stands at one place would not be one item."""
    (first, a), *others = rows.items()
    for name, b in others:
        if len(a) != len(b) and _by_place(a) and _by_place(b):
            raise DataError(
                f"{first} has {len(a)} scores and {name} has {len(b)}; numbers are paired by their "
                'place, so write as many, or objects such as {"id": "q1", "score": 71}'
            )


def _by_place(rows: Iterable[ItemScore]) -> bool:
    return all(row.item_id.startswith("#") for row in rows)
