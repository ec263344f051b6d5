"""Games of chess: rows of UCI moves, and the games of .pgn files.

At stage sft a game becomes questions, all of them one document; at stage cpt it is text. A game
with an illegal move is refused by name; one without moves, or that allows no question, is counted
out like any row without an answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tunebook.data.chess.games import BadGame, Game
from tunebook.data.chess.labels import make_labeller
from tunebook.data.chess.pgn import MOVETEXT
from tunebook.data.chess.read import game_of_row, looks_like_uci
from tunebook.data.chess.tasks import ask, check_answers, game_text
from tunebook.data.formats.completion import build as build_completion
from tunebook.data.formats.shape import DOCUMENT, Shape, Turns
from tunebook.errors import DataError, DefectError
from tunebook.recipe.tree import Source
from tunebook.records import Message

if TYPE_CHECKING:
    from tunebook.data.rows import RawRow

_TAGS = ("Result", "WhiteElo", "BlackElo", "ECO", "TimeControl", "Termination", "Site", "FEN")


def build(row: RawRow, mapping: Mapping[str, str], source: Source) -> list[Turns]:
    """Build the questions that a source's settings ask about a game."""
    game = _game(row, mapping)
    if game is None:
        return [Turns(())]
    try:
        asked = ask(game, source.chess, make_labeller(source.chess))
        check_answers(game, asked)
    except DefectError as error:
        said = f"{row.place}: {error.message}"
        raise DefectError(error.finding, said, error.way_out) from None
    except DataError as error:
        raise DataError(f"{row.place}: {error}") from None
    return [
        Turns(
            (Message("user", one.prompt), Message("assistant", one.completion)),
            document=document_of(game),
        )
        for one in asked
    ] or [Turns(())]


def build_text(row: RawRow, mapping: Mapping[str, str], source: Source) -> list[Turns]:
    """Build the text of a game: header, moves and result."""
    game = _game(row, mapping)
    if game is None:
        return [Turns((Message("text", ""),))]
    return [Turns((Message("text", game_text(game, source.chess)),), document=document_of(game))]


def document_of(game: Game) -> str:
    """Name a game by its moves, so that it stays on its side of a split whatever is asked."""
    return f"chess {game.start or ''} {' '.join(game.uci)}"


def _game(row: RawRow, mapping: Mapping[str, str]) -> Game | None:
    """Read a game; None when it has no moves, which is no mistake but nothing to learn from."""
    try:
        return game_of_row(row, mapping, "pgn" if row.file.kind == "pgn" else "chess-uci")
    except BadGame as error:
        if error.reason == "no moves":
            return None
        raise


def _has_moves(values: Mapping[str, object], columns: Mapping[str, str]) -> bool:
    return looks_like_uci(values.get(columns.get("Moves", "Moves")))


def _is_written(values: Mapping[str, object], columns: Mapping[str, str]) -> bool:
    return values.get("format") == "pgn"


SHAPES = (
    Shape("chess-uci", ("Moves",), build, build_text, optional=_TAGS, fits=_has_moves),
    Shape("pgn", (MOVETEXT,), build, build_text),
    Shape(
        "pgn",
        ("prompt", "completion", "format"),
        build_completion,
        optional=(DOCUMENT,),
        fits=_is_written,
        about="questions about games, as tunebook writes them",
    ),
)
