"""Check a game move by move and write its moves in SAN."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tunebook.data.chess.library import require_chess
from tunebook.errors import DataError

if TYPE_CHECKING:
    import chess

RESULTS = ("1-0", "0-1", "1/2-1/2")
"""How a finished game is written; `*` is a game without a known end."""

Notation = Literal["uci", "san"]

_VARIANTS = ("standard", "from position", "chess")
WAY_OUT = "correct it or leave it out, as `tunebook data chess --keep-going --pgn OUT` does"
"""How a game that cannot be used is put right."""


class BadGame(DataError):
    """A game that cannot be used; `reason` is what such games are counted under."""

    def __init__(self, reason: str, message: str) -> None:
        # Both are kept as arguments: a worker process sends an error by them.
        super().__init__(reason, message)
        self.reason = reason

    def __str__(self) -> str:
        return str(self.args[1])


@dataclass(frozen=True, slots=True)
class Game:
    """A legal game: its header as given, its moves in both notations, and its result.

    `start` is the position it began from when that is not the usual one. `result` is `*` when
    neither the header nor the board says how it ended.
    """

    tags: Mapping[str, str]
    start: str | None
    uci: tuple[str, ...]
    san: tuple[str, ...]
    result: str

    @property
    def first_number(self) -> int:
        """Give the number of the first move."""
        return int(self.start.split()[5]) if self.start else 1

    @property
    def white_starts(self) -> bool:
        """Say whether White makes the first move."""
        return self.start is None or self.start.split()[1] == "w"

    def side_after(self, plies: int) -> str:
        """Name the side to move after so many plies."""
        return "White" if (plies % 2 == 0) == self.white_starts else "Black"


def check_game(
    tags: Mapping[str, str],
    moves: Sequence[str],
    place: str,
    notation: Notation = "uci",
) -> Game:
    """Play a game through and give it in both notations.

    Castling in UCI may be written king to target (e1g1) or king to rook (e1h1). Raises BadGame
    naming the place, ply, move and position of the first move that is not legal, and for a game
    without moves, of another variant, or with a result that the board contradicts.
    """
    require_chess()
    import chess

    if site := tags.get("Site"):
        place = f"{place} ({site})"
    if not moves:
        raise BadGame("no moves", f"{place}: the game has no moves; {WAY_OUT}")
    board, start = _start(tags, place)
    uci, san = [], []
    for ply, said in enumerate(moves, start=1):
        try:
            move = board.parse_uci(said) if notation == "uci" else board.parse_san(said)
            if not move:
                raise chess.IllegalMoveError("a null move")
        except ValueError as error:
            raise _illegal(board, said, ply, notation, place, error) from None
        uci.append(move.uci())
        san.append(board.san_and_push(move))
    return Game(tags, start, tuple(uci), tuple(san), _result(tags, board, place))


def position_after(game: Game, plies: int) -> chess.Board:
    """Set up the position after so many plies of a game."""
    import chess

    board = chess.Board(game.start) if game.start else chess.Board()
    for uci in game.uci[:plies]:
        board.push_uci(uci)
    return board


def number_moves(game: Game, moves: Iterable[str], *, asks_for_next: bool = False) -> str:
    """Write moves from the start of a game with move numbers, as `1. e4 e5 2. Nf3`.

    With `asks_for_next` the number of a white move that is still to come stands at the end.
    """
    words: list[str] = []
    number, white = game.first_number, game.white_starts
    for move in moves:
        if white:
            words.append(f"{number}.")
        elif not words:
            words.append(f"{number}...")
        words.append(move)
        number, white = (number, False) if white else (number + 1, True)
    if asks_for_next and (white or not words):
        words.append(f"{number}." if white else f"{number}...")
    return " ".join(words)


def _start(tags: Mapping[str, str], place: str) -> tuple[chess.Board, str | None]:
    import chess

    variant = tags.get("Variant", "Standard")
    if variant.lower() not in _VARIANTS:
        raise BadGame(
            "another variant",
            f"{place}: the game is of variant {variant!r}, and tunebook reads standard chess; "
            f"{WAY_OUT}",
        )
    fen = tags.get("FEN")
    if not fen or fen == chess.STARTING_FEN:
        return chess.Board(), None
    try:
        board = chess.Board(fen)
    except ValueError as error:
        raise BadGame(
            "illegal position", f"{place}: FEN {fen!r} is no position ({error}); {WAY_OUT}"
        ) from None
    if not board.is_valid():
        raise BadGame("illegal position", f"{place}: FEN {fen!r} is no legal position; {WAY_OUT}")
    return board, board.fen()


def _illegal(
    board: chess.Board, said: str, ply: int, notation: Notation, place: str, error: ValueError
) -> BadGame:
    import chess

    if isinstance(error, chess.AmbiguousMoveError):
        wrong = "is ambiguous"
    elif isinstance(error, chess.InvalidMoveError):
        wrong = "is no UCI move, such as e2e4" if notation == "uci" else "is no move in SAN"
    else:
        wrong = "is illegal"
    side = "White" if board.turn else "Black"
    return BadGame(
        "illegal move",
        f"{place}: ply {ply}, {said[:20]!r}, {wrong} for {side} in position {board.fen()}; "
        f"{WAY_OUT}",
    )


def _result(tags: Mapping[str, str], board: chess.Board, place: str) -> str:
    """Give the result that the header states, else what the board says."""
    stated = tags.get("Result") or "*"
    if stated not in (*RESULTS, "*"):
        raise BadGame(
            "unknown result",
            f"{place}: Result is {stated!r}, not {', '.join(RESULTS)} or *; {WAY_OUT}",
        )
    if board.is_checkmate():
        shown, how = ("0-1" if board.turn else "1-0"), "checkmate"
    elif board.is_stalemate():
        shown, how = "1/2-1/2", "stalemate"
    else:
        return stated
    if stated not in ("*", shown):
        raise BadGame(
            "wrong result",
            f"{place}: Result is {stated}, and the last move gives {how}, which is {shown}; "
            f"{WAY_OUT}",
        )
    return shown
