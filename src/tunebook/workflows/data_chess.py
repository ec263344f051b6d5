"""What `tunebook data chess` does: check games, count them, write them as PGN or as questions."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import orjson
import zstandard
from pydantic import ValidationError

from tunebook.book.atomic import files_aside
from tunebook.data.chess.engine import close_engines, find_engine, typed_engine
from tunebook.data.chess.games import Game
from tunebook.data.chess.labels import make_labeller
from tunebook.data.chess.pgn import write_game
from tunebook.data.chess.survey import Survey, ask_rows, format_of, read_games
from tunebook.data.examples import key_of_document, name_of_document
from tunebook.data.formats.chess import document_of
from tunebook.data.formats.shape import DOCUMENT
from tunebook.data.sources import locate
from tunebook.errors import DataError, UsageError
from tunebook.recipe.chess import Chess
from tunebook.recipe.yaml_text import parse_yaml

_WITHOUT_ENGINE = ("result", "next_move", "masked_moves", "last_move")
_TEXTS = ("template", "mask", "engine")

Progress = Callable[[int], None]
"""Told after each game how many were read."""


def convert(
    path: str,
    *,
    tasks: Sequence[str] = (),
    settings: Sequence[str] = (),
    columns: Mapping[str, str] | None = None,
    out: Path | None = None,
    pgn: Path | None = None,
    engine: str | None = None,
    depth: int | None = None,
    limit: int | None = None,
    keep_going: bool = False,
    progress: Progress = lambda n_games: None,
) -> Survey:
    """Play every game through, write what was asked for, and count.

    With `out` and no task, next_move is asked. Without `out`, each game is asked every task; with
    neither, the four that need no engine, and one game for its best move if an engine is found.
    Files appear when they are whole, never over another file.
    Raises DataError for a game that cannot be used, unless `keep_going`.
    """
    located = locate(path)
    wanted = list(tasks) or (["next_move"] if out is not None else list(_WITHOUT_ENGINE))
    stated: dict[str, object] = {"tasks": wanted}
    stated |= {"depth": depth} if depth is not None else {}
    chess = _settings(stated, settings)
    if engine is not None:  # typed by the user, so not held to what a run file may name
        chess = chess.model_copy(update={"engine": typed_engine(engine)})
    for target in (out, pgn):
        _refuse_target(target)
    if "best_move" in chess.shares:
        find_engine(chess.engine)  # Missing, it is said before hours of reading.
    survey = Survey(path, format_of(located))
    label = make_labeller(chess)
    # To look at a set is to see every task; to write one is to draw tasks by their shares.
    plans = [chess]
    if out is None:
        plans = [chess.model_copy(update={"tasks": [task]}) for task in chess.shares]
    try:
        with ExitStack() as stack:
            rows_file, pgn_file = stack.enter_context(_aside(out, pgn))
            games = read_games(
                located, dict(columns or {}), survey, keep_going=keep_going, limit=limit
            )
            for game_id, game in games:
                rows = [row for plan in plans for row in ask_rows(game_id, game, plan, label)]
                survey.take_rows(rows)
                if rows_file is not None:
                    said = _said_of(game)
                    rows_file.writelines(orjson.dumps({**row, **said}) + b"\n" for row in rows)
                if pgn_file is not None:
                    pgn_file.write(write_game(game).encode() + b"\n")
                if not tasks and out is None and survey.games == 1:
                    _show_best_move(game_id, game, chess, survey)
                progress(survey.games_in)
    finally:
        close_engines()
    if not survey.games:
        reasons = ", ".join(f"{n} {reason}" for reason, n in survey.dropped.items())
        raise DataError(f"{path}: no game is left: {survey.games_in} in, dropped {reasons}")
    return survey


def _said_of(game: Game) -> dict[str, str]:
    """Say of a question what its template and a split go by, whichever file it came from."""
    return {"format": "pgn", DOCUMENT: name_of_document(key_of_document(document_of(game)))}


def _show_best_move(game_id: str, game: Game, chess: Chess, survey: Survey) -> None:
    """Ask for one best move, as an example, where an engine is found."""
    try:
        find_engine(chess.engine)
    except UsageError:
        return
    one = chess.model_copy(update={"tasks": ["best_move"], "per_game": 1})
    for row in ask_rows(game_id, game, one, make_labeller(one)):
        survey.examples.setdefault("best_move", row)


def _settings(stated: dict[str, object], settings: Sequence[str]) -> Chess:
    """Put the options and the `key=value` settings together, checked as in a run file."""
    values = dict(stated)
    for text in settings:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"--set {text!r} is not KEY=VALUE, such as per_game=2")
        # A template begins with a brace, which YAML would take for a mapping.
        is_text = key in _TEXTS
        values[key] = (
            value.replace("\\n", "\n") if is_text else parse_yaml(value, f"--set {key}").values
        )
    try:
        return Chess.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = str(first["loc"][0]) if first["loc"] else "the settings"
        if first["type"] == "extra_forbidden":
            known = ", ".join(Chess.model_fields)
            raise UsageError(f"--set {key}: there is no such setting; there is {known}") from None
        said = str(first.get("ctx", {}).get("error", first["msg"]))
        said = said[0].lower() + said[1:]
        raise UsageError(f"{key} is {values.get(key)!r}: {said}") from None


def _refuse_target(target: Path | None) -> None:
    if target is None:
        return
    if target.exists():
        raise UsageError(f"{target} is there already; delete it or name another file")
    if not target.parent.is_dir():
        raise UsageError(f"there is no folder {target.parent} to write {target.name} in; make it")


@contextmanager
def _aside(*targets: Path | None) -> Iterator[list[IO[bytes] | None]]:
    """Write files beside their names, renamed when all are whole; .gz and .zst are packed."""
    wanted = [target for target in targets if target is not None]
    with files_aside(wanted) as files, ExitStack() as stack:
        raw = dict(zip(wanted, files, strict=True))
        yield [
            None if one is None else stack.enter_context(_packed(raw[one], one.suffix.lower()))
            for one in targets
        ]


@contextmanager
def _packed(raw: IO[bytes], ending: str) -> Iterator[IO[bytes]]:
    if ending == ".gz":
        with (
            gzip.GzipFile(fileobj=raw, mode="wb", mtime=0) as packed,
            io.BufferedWriter(packed, 1024 * 1024) as buffered,
        ):
            yield buffered
    elif ending == ".zst":
        with zstandard.ZstdCompressor().stream_writer(raw, closefd=False) as packed_zst:
            yield packed_zst
    else:
        yield raw
