"""Ask questions about a game: prompts and answers, the same for the same game and seed.

What is asked depends on the seed and on what the game says, never on where its row stands.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson

from tunebook.data.chess.games import RESULTS, Game, number_moves, position_after
from tunebook.data.chess.labels import Labeller, illegal_label
from tunebook.data.chess.pgn import write_header
from tunebook.recipe.chess import Chess, ChessTask

_SHOWN_TAGS = ("Result", "WhiteElo", "BlackElo", "ECO", "TimeControl", "Termination", "FEN")
_KNOWN_BEFORE_THE_END = frozenset(
    {"Event", "Site", "Date", "Round", "White", "Black", "WhiteElo", "BlackElo", "WhiteTitle"}
    | {"BlackTitle", "ECO", "Opening", "TimeControl", "UTCDate", "UTCTime", "Variant", "FEN"}
)
_QUESTIONS: Mapping[ChessTask, str] = {
    "result": "How did this chess game end? Answer with its result as PGN writes it.",
    "next_move": "What does {side} play next in this chess game?",
    "masked_moves": "Which moves stand behind each {mask} in this chess game, in order?",
    "last_move": "Which move of {side} ends this chess game?",
    "best_move": "What is the best move for {side} in this chess game?",
}
_TRIES = 10


@dataclass(frozen=True, slots=True)
class Asked:
    """One question about a game; `plies` is how many of its moves the position asked about has.

    `evaluation` is the label's, for task best_move.
    """

    task: ChessTask
    plies: int
    prompt: str
    completion: str
    evaluation: str | None = None


def ask(game: Game, settings: Chess, label: Labeller) -> list[Asked]:
    """Draw the questions of a game by the shares of their tasks; fewer when it allows no more.

    The first n of them are the same whatever `per_game` is.
    """
    draw = random.Random(_seed_of(game, settings.seed))
    left = {task: _places(task, game, settings) for task in settings.shares}
    asked: list[Asked] = []
    masked: set[tuple[int, ...]] = set()
    while len(asked) < settings.per_game:
        shares = {task: settings.shares[task] for task, places in left.items() if places}
        if not shares:
            break
        task = _by_share(shares, draw)
        if task == "masked_moves":
            found = _ask_masked(game, settings, left[task], masked, draw)
            if found is None:
                left[task] = []
                continue
        else:
            places = left[task]
            found = _ask_at(task, game, settings, places.pop(_below(len(places), draw)), label)
        asked.append(found)
    return asked


def check_answers(game: Game, asked: Sequence[Asked]) -> None:
    """Hold every labelled answer to the position its prompt shows, set up anew from the SAN.

    What labels and what asks each have a position of their own; were they one ply apart, the answer
    would be a move of the other side. Raises DataError, illegal-label.
    """
    for one in asked:
        if one.evaluation is None:
            continue
        board = position_after(game, 0)
        for san in game.san[: one.plies]:
            board.push_san(san)
        try:
            board.parse_san(one.completion)
        except ValueError:
            raise illegal_label(board, one.completion) from None


def next_move_prompt(game: Game, settings: Chess, *, as_text: bool) -> str:
    """Ask for the move after a game's last one, worded as training words it.

    `as_text` leaves off where the text of a game goes on, for a model that was trained on text.
    """
    moves = number_moves(game, game.san, asks_for_next=True)
    if as_text:
        return f"{_header(game, settings, None)}{moves}"
    return _prompt("next_move", game, settings, moves, len(game.san))


def game_text(game: Game, settings: Chess) -> str:
    """Write a game as text to train on: header, moves and result."""
    header = _header(game, settings, None)
    return f"{header}{number_moves(game, game.san)} {game.result}\n"


def _places(task: ChessTask, game: Game, settings: Chess) -> list[int]:
    """List the plies a task may be asked at: moves shown, or for masked_moves the maskable ones."""
    n_moves = len(game.san)
    if task == "result":
        return [n_moves] if game.result in RESULTS else []
    if task == "last_move":
        return [n_moves - 1]
    if task == "masked_moves":
        # A move that stands elsewhere in the game, too, would give its answer away.
        times = Counter(game.san)
        once = [i for i, move in enumerate(game.san) if times[move] == 1]
        return once if n_moves > 1 else []
    last = n_moves - 1 if settings.max_ply is None else min(settings.max_ply, n_moves - 1)
    return list(range(settings.min_ply, last + 1))


def _ask_at(task: ChessTask, game: Game, settings: Chess, plies: int, label: Labeller) -> Asked:
    moves = number_moves(game, game.san[:plies], asks_for_next=task != "result")
    prompt = _prompt(task, game, settings, moves, plies)
    if task == "result":
        return Asked(task, plies, prompt, game.result)
    if task == "best_move":
        found = label(position_after(game, plies))
        return Asked(task, plies, prompt, found.san, found.evaluation)
    return Asked(task, plies, prompt, game.san[plies])


def _ask_masked(
    game: Game, settings: Chess, places: list[int], used: set[tuple[int, ...]], draw: random.Random
) -> Asked | None:
    """Mask some moves that were not masked together before; None when no such choice is found."""
    n_masked = min(settings.masked, len(game.san) // 2, len(places))
    for _ in range(_TRIES):
        chosen = tuple(sorted(_sample(places, n_masked, draw)))
        shown = [settings.mask if i in chosen else move for i, move in enumerate(game.san)]
        prompt = _prompt("masked_moves", game, settings, number_moves(game, shown), len(game.san))
        answer = " ".join(game.san[i] for i in chosen)
        if chosen not in used and answer not in prompt:
            used.add(chosen)
            return Asked("masked_moves", len(game.san), prompt, answer)
    return None


def _prompt(task: ChessTask, game: Game, settings: Chess, moves: str, plies: int) -> str:
    side = game.side_after(plies)
    fields = {"side": side, "task": task, "mask": settings.mask, "moves": moves, "fen": ""}
    fields["question"] = _QUESTIONS[task].format(side=side, mask=settings.mask)
    fields["header"] = _header(game, settings, task)
    if "{fen}" in settings.template:
        fields["fen"] = position_after(game, plies).fen()
    return settings.template.format_map(fields)


def _header(game: Game, settings: Chess, task: ChessTask | None) -> str:
    """Write the header shown to a model; an empty line ends it."""
    if settings.header is False:
        return ""
    names = _SHOWN_TAGS if settings.header is True else tuple(settings.header)
    given = dict(game.tags) | {"Result": game.result if game.result in RESULTS else ""}
    tags = {name: given[name] for name in names if given.get(name)}
    if task == "result":
        tags = {
            name: value
            for name, value in tags.items()
            if name in _KNOWN_BEFORE_THE_END and game.result not in value
        }
    return f"{write_header(tags)}\n" if tags else ""


def _seed_of(game: Game, seed: int) -> int:
    # The header counts for nothing: the same game as UCI and as PGN is asked the same.
    said = orjson.dumps([seed, game.start, game.uci])
    return int.from_bytes(hashlib.blake2b(said, digest_size=16, person=b"tunebook.chess").digest())


# Only random() keeps its sequence from one version of Python to the next.
def _below(n: int, draw: random.Random) -> int:
    return int(draw.random() * n)


def _sample(places: list[int], n: int, draw: random.Random) -> list[int]:
    pool = list(places)
    return [pool.pop(_below(len(pool), draw)) for _ in range(n)]


def _by_share(shares: Mapping[ChessTask, float], draw: random.Random) -> ChessTask:
    at = draw.random() * sum(shares.values())
    for task, share in shares.items():
        at -= share
        if at < 0:
            return task
    return next(reversed(list(shares)))
