"""Count what a set of games holds, and where every one of them went."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tunebook.data.chess.games import BadGame, Game
from tunebook.data.chess.labels import Labeller
from tunebook.data.chess.read import game_of_row
from tunebook.data.chess.tasks import Asked, ask, check_answers
from tunebook.data.rows import RawRow, read_rows
from tunebook.data.sources import Located
from tunebook.errors import DataError
from tunebook.recipe.chess import Chess

_DROPS_SHOWN = 5
_OPENINGS_SHOWN = 5


@dataclass(slots=True)
class Survey:
    """Counts over games; `games_in == sum(dropped) + games`, always.

    `drops` has the first few sentences per reason, `elo` the lowest and the highest rating, `tasks`
    the questions asked, `unasked` the games that allowed none, `examples` the first question of
    each task.
    """

    path: str
    format: str
    games_in: int = 0
    games: int = 0
    plies: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    drops: dict[str, list[str]] = field(default_factory=dict)
    results: Counter[str] = field(default_factory=Counter)
    elo: tuple[int, int] | None = None
    openings: Counter[str] = field(default_factory=Counter)
    tasks: Counter[str] = field(default_factory=Counter)
    unasked: int = 0
    examples: dict[str, dict[str, object]] = field(default_factory=dict)

    def drop(self, error: BadGame) -> None:
        """Count a game that is left out."""
        self.dropped[error.reason] += 1
        said = self.drops.setdefault(error.reason, [])
        if len(said) < _DROPS_SHOWN:
            said.append(str(error))

    def take(self, game: Game) -> None:
        """Count a game."""
        self.games += 1
        self.plies += len(game.san)
        self.results[game.result] += 1
        if opening := game.tags.get("Opening") or game.tags.get("ECO"):
            self.openings[opening] += 1
        for name in ("WhiteElo", "BlackElo"):
            rating = game.tags.get(name, "")
            if rating.isdecimal():
                low, high = self.elo or (int(rating), int(rating))
                self.elo = (min(low, int(rating)), max(high, int(rating)))

    def take_rows(self, rows: list[dict[str, object]]) -> None:
        """Count the questions of a game."""
        self.unasked += not rows
        for row in rows:
            self.tasks[str(row["task"])] += 1
            self.examples.setdefault(str(row["task"]), row)

    def as_json(self) -> dict[str, Any]:
        """Give the counts under the names that `--json` prints."""
        return {
            "format": self.format,
            "source": self.path,
            "games_in": self.games_in,
            "dropped": dict(sorted(self.dropped.items())),
            "games_out": self.games,
            "plies": self.plies,
            "results": dict(sorted(self.results.items())),
            "elo": list(self.elo) if self.elo else None,
            "openings": dict(self.openings.most_common(_OPENINGS_SHOWN)),
            "tasks": dict(self.tasks),
            "unasked_games": self.unasked,
            "examples": self.examples,
            "drops": self.drops,
        }


def format_of(located: Located) -> str:
    """Say which chess format files of this kind have; DataError for text."""
    if located.kind == "pgn":
        return "pgn"
    if located.kind == "text":
        raise DataError(
            f"{located.path}: this is plain text; chess games come as .pgn files or as rows with "
            "UCI moves (Moves) in .jsonl or .json"
        )
    return "chess-uci"


def read_games(
    located: Located,
    mapping: Mapping[str, str],
    survey: Survey,
    *,
    keep_going: bool,
    limit: int | None,
) -> Iterator[tuple[str, Game]]:
    """Yield the games of a source with their ids, counted.

    The first bad game raises BadGame, unless `keep_going` counts it instead.
    """
    for name, row in _rows(located):
        if limit is not None and survey.games_in >= limit:
            return
        survey.games_in += 1
        try:
            game = game_of_row(row, mapping, survey.format)
        except BadGame as error:
            # A game without moves says nothing wrong; it is counted out, here and in a run.
            if not keep_going and error.reason != "no moves":
                raise
            survey.drop(error)
            continue
        survey.take(game)
        yield f"{name}#{row.row}", game


def ask_rows(game_id: str, game: Game, settings: Chess, label: Labeller) -> list[dict[str, object]]:
    """Ask about a game, as rows to write: {id, task, prompt, completion, game}.

    Rows of task best_move have the label's `evaluation` as well, as White sees it.
    """
    asked = ask(game, settings, label)
    check_answers(game, asked)
    many = len(asked) > 1
    return [
        _as_row(f"{game_id}.{n}" if many else game_id, game_id, one)
        for n, one in enumerate(asked, start=1)
    ]


def _as_row(row_id: str, game_id: str, asked: Asked) -> dict[str, object]:
    row: dict[str, object] = {
        "id": row_id,
        "task": asked.task,
        "prompt": asked.prompt,
        "completion": asked.completion,
        "game": game_id,
    }
    if asked.evaluation is not None:
        row["evaluation"] = asked.evaluation
    return row


def _rows(located: Located) -> Iterator[tuple[str, RawRow]]:
    for file in located.files:
        one = len(located.files) == 1
        name = located.name if one else f"{located.name}/{file.label}"
        for row in read_rows(file):
            yield name, row
