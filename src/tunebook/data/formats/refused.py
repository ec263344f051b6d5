"""Files that are known and are not for training: each is refused by name, with the way out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tunebook.errors import DataError

if TYPE_CHECKING:
    from tunebook.data.rows import RawRow

# keys -> what it is, and what to do instead; the first whose keys are all there holds.
_REFUSED: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (
        ("chosen", "rejected"),
        "these are preference pairs (chosen, rejected), which tunebook does not train on",
        "to train on one side say {one_side}",
    ),
    (
        ("output_1", "output_2", "preference"),
        "these are a judge's verdicts on pairs of answers (output_1, output_2, preference), which "
        "are for evaluation",
        "to train on one side say `format: alpaca` with `columns: {{output: output_1}}`",
    ),
    (
        ("instruction", "output", "generator"),
        "these are a model's answers to be judged (instruction, output, generator), which are for "
        "evaluation",
        "to train on them all the same say `format: alpaca`",
    ),
    (
        ("PuzzleId", "FEN", "Moves"),
        "these are chess puzzles (PuzzleId, FEN, Moves), which are for evaluation",
        "to train on chess give whole games, as UCI moves or .pgn",
    ),
    (
        ("eco", "name", "pgn"),
        "this is a table of chess openings (eco, name, pgn), which holds names and no games",
        "to train on it all the same say `format: completion` with `columns: {{prompt: name, "
        "completion: pgn}}`",
    ),
)
_ASKED = ("prompt", "question", "query")


def refuse_known(row: RawRow) -> None:
    """Raise DataError when a row is of a kind of file that is known and not for training."""
    for keys, what, way_out in _REFUSED:
        if set(keys) <= set(row.values):
            said = way_out.format(one_side=_one_side(row.values))
            raise DataError(f"{row.place}: {what}; {said}")


def _one_side(values: Mapping[str, object]) -> str:
    if "instruction" in values:  # as alpaca, which reads `input` too
        return "`format: alpaca` with `columns: {output: chosen}`"
    asked = next((name for name in _ASKED if name in values), "your_name")
    return f"`format: completion` with `columns: {{prompt: {asked}, completion: chosen}}`"
