"""What `tunebook chess` does: legal moves, puzzles and games of a run's weights and its base."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tunebook.book.atomic import write_atomically
from tunebook.book.codec import to_record
from tunebook.book.data_account import read_data
from tunebook.book.evaluations import EvaluationLog, scores_of, write_result
from tunebook.book.places import open_run
from tunebook.data.render import Renderer, choose_renderer
from tunebook.errors import UsageError
from tunebook.evaluate.chess.games import (
    Fixture,
    PlayedGame,
    Policy,
    Rules,
    fixtures,
    play,
    write_pgn,
)
from tunebook.evaluate.chess.ladder import Rating
from tunebook.evaluate.chess.players import Spec, read_spec, seat_opponents
from tunebook.evaluate.chess.positions import ask_positions, key_of, read_openings, read_positions
from tunebook.evaluate.chess.prompts import SHOWN_TAGS, Wording
from tunebook.evaluate.chess.puzzles import ask_puzzles, read_puzzles
from tunebook.evaluate.chess.summary import (
    game_details,
    points_estimate,
    position_details,
    puzzle_details,
)
from tunebook.recipe.chess import Chess
from tunebook.records import Evaluation, ItemScore
from tunebook.statistics.compare import compare_many
from tunebook.statistics.estimate import proportion_estimate
from tunebook.workflows.chess_opponents import find_engine_for, find_ratings
from tunebook.workflows.chess_writer import MAX_NEW_TOKENS, make_answerer
from tunebook.workflows.notebook import build_notebook
from tunebook.workflows.speakers import Job, Key, Speaker, Trained, ask_all, open_run_to_ask
from tunebook.workflows.weights import BASE

MARGIN = 0.03
"""Shares of moves or points that differ by less are as good as equal."""

_FORMATS = ("pgn", "chess-uci")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked and played, and how.

    `positions` counts those of each phase. `header` and `template` override how the run's own chess
    data is worded (None: they do not); `tags` are values of header tags; `ratings` are Elo by
    opponent, stated by hand.
    """

    positions: int = 80
    opponents: tuple[str, ...] = ("random",)
    policies: tuple[Policy, ...] = ("strict",)
    games: int = 100
    ladder_games: int = 120
    ratings: Mapping[str, float] = field(default_factory=dict)
    engine: str | None = None
    nodes: int = 1000
    puzzles: Path | None = None
    header: bool | list[str] | None = None
    template: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    temperature: float = 0.0
    rules: Rules = field(default_factory=Rules)
    seed: int = 0


def evaluate_chess(
    name: str,
    book: Path,
    wanted: Wanted,
    *,
    weights: Sequence[str] = (BASE, "final"),
    device: str | None = None,
    say: Callable[[str], None] = lambda _text: None,
) -> list[Evaluation]:
    """Ask and play with each of the weights; each after the first is compared with the first.

    What was asked and played before under the same settings is used again. Raises BookError or
    UsageError for weights, opponents or an engine that are not there.
    """
    run = open_run(book, name)
    trained = open_run_to_ask(run, weights, device=device, say=say)
    specs = [read_spec(opponent) for opponent in dict.fromkeys(wanted.opponents)]
    engine = find_engine_for(specs, wanted.engine) if wanted.games else None
    ratings, engine_name = (
        find_ratings(specs, wanted.ratings, engine, book, ladder_games=wanted.ladder_games, say=say)
        if wanted.games
        else ({}, None)
    )
    asking = _Asking(trained, wanted, engine, engine_name, specs, say)
    jobs = asking.jobs()
    evaluations = [
        _result(trained, job, logs, ratings)
        for job, logs in zip(jobs, ask_all(trained, jobs), strict=True)
    ]
    build_notebook(book, say)
    return [one for by_weights in evaluations for one in by_weights]


class _Asking:
    """The jobs of one command, which share the wording of their prompts."""

    def __init__(
        self,
        trained: Trained,
        wanted: Wanted,
        engine: str | None,
        engine_name: str | None,
        specs: Sequence[Spec],
        say: Callable[[str], None],
    ) -> None:
        self._wanted, self._engine, self._engine_name = wanted, engine, engine_name
        self._specs, self._say = specs, say
        self._wording, self._renderer = _word(trained, wanted)

    def jobs(self) -> list[Job]:
        """List what is asked: positions, puzzles where there are any, games by policy."""
        wanted, wording = self._wanted, self._wording
        shared: dict[str, object] = {
            "header": wording.settings.header,
            "tags": ", ".join(f"{name}={value}" for name, value in wording.tags.items()),
            "template": None if wording.as_text else wording.settings.template,
            "temperature": wanted.temperature,
            "max_new_tokens": MAX_NEW_TOKENS,
            "seed": wanted.seed,
        }
        lines = {key_of(line): line for line in read_positions(wanted.positions)}
        own: dict[str, object] = {**shared, "positions": wanted.positions}
        jobs = [Job("chess", own, list(lines), partial(self._positions, lines))]
        if wanted.puzzles is not None:
            puzzles = {puzzle.key: puzzle for puzzle in read_puzzles(wanted.puzzles)}
            own = {**shared, "file": wanted.puzzles.name}
            jobs.append(Job("chess-puzzles", own, list(puzzles), partial(self._puzzles, puzzles)))
        names = [spec.name for spec in self._specs]
        for policy in wanted.policies if wanted.games else ():
            games = {
                one.key: one for one in fixtures(names, [policy], read_openings(), wanted.games)
            }
            own = shared | {
                "policy": policy,
                "opponents": names,
                "games": wanted.games,
                "engine": self._engine_name if any(s.needs_engine for s in self._specs) else None,
                "threads": 1,
                "nodes": wanted.nodes,
                "max_plies": wanted.rules.max_plies,
                "retries": wanted.rules.retries if policy == "retry" else None,
            }
            jobs.append(Job("chess-games", own, list(games), partial(self._games, games)))
        return jobs

    def _answerer(self, speaker: Speaker) -> Any:
        return make_answerer(
            speaker, self._renderer, self._wanted.temperature, as_text=self._wording.as_text
        )

    def _positions(
        self, lines: Mapping[Key, Any], speaker: Speaker, log: EvaluationLog, keys: list[Key]
    ) -> None:
        self._say(f"{speaker.subject.label}: {len(keys)} positions")
        chosen = [lines[key] for key in keys]
        for rows in ask_positions(
            chosen, self._wording, self._answerer(speaker), self._wanted.seed
        ):
            log.add(rows)

    def _puzzles(
        self, puzzles: Mapping[Key, Any], speaker: Speaker, log: EvaluationLog, keys: list[Key]
    ) -> None:
        self._say(f"{speaker.subject.label}: {len(keys)} puzzles")
        chosen = [puzzles[key] for key in keys]
        for rows in ask_puzzles(chosen, self._wording, self._answerer(speaker), self._wanted.seed):
            log.add(rows)

    def _games(
        self, games: Mapping[Key, Fixture], speaker: Speaker, log: EvaluationLog, keys: list[Key]
    ) -> None:
        wanted = self._wanted
        policy = games[keys[0]].policy
        self._say(f"{speaker.subject.label}: {len(keys)} games, {policy}")
        with seat_opponents(self._specs, self._engine, wanted.nodes) as seats:
            played = play(
                [games[key] for key in keys], self._answerer(speaker), seats, self._wording,
                wanted.rules, wanted.seed,
            )  # fmt: skip
            by_id = {key[0]: key for key in keys}
            for number, game in enumerate(played, start=1):
                item_id, item_hash, repeat = by_id[game.id]
                row = {"item_id": item_id, "item_hash": item_hash, "repeat": repeat}
                row |= {"value": game.score, "cluster": f"{game.opponent}/{game.opening}"}
                log.add([row | {"game": asdict(game)}])
                if number % 25 == 0:
                    self._say(f"{speaker.subject.label}: {number} of {len(keys)} games are over")


def _word(trained: Trained, wanted: Wanted) -> tuple[Wording, Renderer]:
    """Word prompts as the run's first source of chess does, where it has one."""
    recipe = trained.recipe
    formats = [str(source["format"]) for source in read_data(trained.run).get("sources", ())]
    place = next((n for n, found in enumerate(formats) if found in _FORMATS), None)
    settings = Chess() if place is None else recipe.data[place].chess
    as_text = recipe.stage == "cpt"
    if as_text and wanted.template is not None:
        raise UsageError(
            f"run {trained.run.name} was trained on text (stage cpt), which has no template; leave "
            "--template out, --header and --tag say what stands before the moves"
        )
    changed = {
        name: value
        for name, value in (("header", wanted.header), ("template", wanted.template))
        if value is not None
    }
    try:
        settings = Chess.model_validate(settings.model_dump() | changed)
    except ValidationError as error:
        raise UsageError(f"chess: {error.errors()[0]['msg']}") from None
    found = formats[place or 0] if formats else "pgn"
    renderer = choose_renderer(recipe.template, found, trained.codec, recipe.stage)
    return Wording(settings, as_text, {**SHOWN_TAGS, **wanted.tags}), renderer


def _result(
    trained: Trained,
    job: Job,
    logs: Mapping[str, EvaluationLog],
    ratings: Mapping[str, Rating],
) -> list[Evaluation]:
    """Write down what a job came to, for each of the weights."""
    found: list[Evaluation] = []
    keys = set(job.wanted)
    asked = {name: [x for x in log.rows if _key(x) in keys] for name, log in logs.items()}
    scored = {s.name: scores_of(asked[s.name], s.label) for s in trained.subjects}
    first, *others = scored
    compared = compare_many(scored, [(x, first) for x in others], margin=MARGIN, scale=(0, 1))
    for subject in trained.subjects:
        log, lines = logs[subject.name], asked[subject.name]
        one = _score(job.kind, scored[subject.name])
        if job.kind == "chess-games":
            played = [to_record(PlayedGame, line["game"]) for line in lines]
            details = game_details(played, ratings)
            _write_games(log.path.with_suffix(".pgn"), played, subject.label, ratings)
        elif job.kind == "chess-puzzles":
            details = puzzle_details(lines)
        else:
            details = position_details(lines)
        one = replace(
            one,
            subject=subject.name,
            settings={"weights": subject.weights, **job.settings},
            details=details,
            against=None if subject.name == first else first,
            comparison=compared.get((subject.name, first)),
        )
        found.append(write_result(trained.run, log.path, one))
    return found


def _score(kind: str, rows: Sequence[ItemScore]) -> Evaluation:
    units = {"chess": "legal moves", "chess-puzzles": "puzzles solved"}
    estimate = points_estimate(rows) if kind == "chess-games" else proportion_estimate(rows)
    return Evaluation(
        kind=kind,
        subject="",
        unit=units.get(kind, "points a game"),
        score=estimate.score,
        interval=estimate.interval,
        n=estimate.n,
        missing=estimate.missing,
        examples_hash=estimate.examples_hash,
        settings={},
        details={},
    )


def _write_games(
    path: Path, games: Sequence[PlayedGame], model: str, ratings: Mapping[str, Rating]
) -> None:
    texts = []
    for game in games:
        rating = ratings.get(game.opponent)
        tag = "BlackElo" if game.white else "WhiteElo"
        texts.append(write_pgn(game, model, {tag: f"{rating.elo:.0f}"} if rating else {}))
    write_atomically(path, "\n".join(texts))


def _key(line: Mapping[str, Any]) -> Key:
    return line["item_id"], line["item_hash"], line["repeat"]
