"""Word the question for the next move of a game as a model was trained to be asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import chess

from tunebook.data.chess.games import Game
from tunebook.data.chess.tasks import next_move_prompt
from tunebook.recipe.chess import Chess

SHOWN_TAGS: Mapping[str, str] = {"Result": "win", "WhiteElo": "2000", "BlackElo": "2000"}
"""Header values of a game that is still being played; `win` is a win of the side to move."""

_RESULTS = {
    ("win", True): "1-0",
    ("win", False): "0-1",
    ("loss", True): "0-1",
    ("loss", False): "1-0",
}


@dataclass(frozen=True, slots=True)
class Wording:
    """How a position becomes a prompt.

    `settings` has the template and which header tags are shown, `tags` their values; a Result of
    `win` or `loss` is the side to move's. `as_text` asks by a text that breaks off, without a
    template. A position that does not begin at the usual one is always told by its FEN.
    """

    settings: Chess
    as_text: bool
    tags: Mapping[str, str] = field(default_factory=lambda: dict(SHOWN_TAGS))

    def prompt(self, board: chess.Board) -> str:
        """Write the prompt for the move that is to be made on a board."""
        return next_move_prompt(self._game(board), self._shown(board), as_text=self.as_text)

    def _game(self, board: chess.Board) -> Game:
        played, san = board.root(), []
        start = None if played.fen() == chess.STARTING_FEN else played.fen()
        for move in board.move_stack:
            san.append(played.san_and_push(move))
        tags = dict(self.tags) | ({"FEN": start} if start else {})
        stated = tags.get("Result", "*")
        result = _RESULTS.get((stated, board.turn), stated)
        return Game(tags, start, tuple(move.uci() for move in board.move_stack), tuple(san), result)

    def _shown(self, board: chess.Board) -> Chess:
        told = not self.as_text and "{fen}" in self.settings.template
        if told or board.root().fen() == chess.STARTING_FEN:
            return self.settings
        header = self.settings.header
        if header is True or (header and "FEN" in header):
            return self.settings
        return self.settings.model_copy(update={"header": [*(header or ()), "FEN"]})
