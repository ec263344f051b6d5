"""`tunebook chess`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tunebook.errors import UsageError

if TYPE_CHECKING:
    from tunebook.evaluate.chess.games import Policy
    from tunebook.records import Evaluation
    from tunebook.workflows.chess import Wanted

_POLICIES = ("strict", "resign", "retry", "constrained")
_SETTINGS: Mapping[str, Callable[[str], Any]] = {
    "positions": int,
    "engine": str,
    "nodes": int,
    "ladder_games": int,
    "retries": int,
    "max_plies": int,
    "template": str,
    "seed": int,
}


@click.command("chess")
@click.argument("run", required=False)
@click.option("--games", metavar="FILE", help="Judge the games of this PGN file in place of a run.")
@click.option("--player", metavar="NAME", help="Whose games; by default who played most.")
@click.option(
    "--rating", "ratings", multiple=True, metavar="NAME=ELO", help="An opponent's rating, by hand."
)
@click.option(
    "--opponent",
    "opponents",
    multiple=True,
    metavar="NAME",
    default=("random",),
    show_default="random",
    help="random, random:0.6, skill:0 to skill:20, elo:1500 or stockfish; repeatable.",
)
@click.option(
    "--policy",
    "policies",
    multiple=True,
    type=click.Choice(_POLICIES),
    default=("strict",),
    show_default="strict",
    help="What follows when no legal move is written; repeatable.",
)
@click.option(
    "--each",
    type=click.IntRange(0, 120),
    default=100,
    show_default=True,
    help="Games against each opponent under each policy.",
)
@click.option("--puzzles", type=click.Path(path_type=Path), help="Puzzles as Lichess has them.")
@click.option("--header", metavar="TAGS", help="Header tags shown, as Result,WhiteElo; or none.")
@click.option("--tag", "tags", multiple=True, metavar="NAME=VALUE", help="As WhiteElo=2400.")
@click.option("--temperature", type=click.FloatRange(0), default=0.0, show_default=True)
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help=f"{', '.join(_SETTINGS)}."
)
@click.option("--weights", default="base,final", metavar="NAMES", help="base, final, best, step-N.")
@click.option("--device", help="auto, cpu, cuda or mps in place of the run's own.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    run: str | None,
    games: str | None,
    player: str | None,
    ratings: tuple[str, ...],
    opponents: tuple[str, ...],
    policies: tuple[Policy, ...],
    each: int,
    puzzles: Path | None,
    header: str | None,
    tags: tuple[str, ...],
    temperature: float,
    settings: tuple[str, ...],
    weights: str,
    device: str | None,
    as_json: bool,
) -> None:
    """Measure a run's chess: legal moves in fixed positions, puzzles, games and Elo.

    Every share has its interval, and every Elo the source of its opponents' ratings. With --games
    neither a model nor a book is needed.
    """
    if (run is None) == (games is None):
        raise UsageError("say which run, or --games FILE with games made elsewhere")
    by_hand = {name: _number(name, elo, float) for name, elo in map(_pair, ratings)}
    if games is not None:
        from tunebook.workflows.chess_outside import judge_games

        found = [judge_games(games, player, by_hand)]
    else:
        from tunebook.book.places import find_book
        from tunebook.data.chess.library import require_chess

        require_chess()
        from tunebook.workflows.weights import refuse_missing

        names = [name.strip() for name in weights.split(",") if name.strip()]
        refuse_missing(find_book(), str(run), names)
        from tunebook.workflows.chess import Wanted, evaluate_chess

        wanted = Wanted(
            opponents=opponents,
            policies=policies,
            games=each,
            ratings=by_hand,
            puzzles=puzzles,
            header=_header(header),
            tags=dict(map(_pair, tags)),
            temperature=temperature,
        )
        found = evaluate_chess(
            str(run),
            find_book(),
            _with_settings(wanted, settings),
            weights=names,
            device=device,
            say=lambda text: click.echo(text, err=True),
        )
    if as_json:
        from tunebook.book.codec import dump_json

        click.echo(dump_json(_plain(found), indent=True).decode(), nl=False)
        return
    from tunebook.cli.chess_text import write_chess

    click.echo("\n".join(write_chess(found)))


def _plain(found: Sequence[Evaluation]) -> dict[str, Any]:
    """Give the first evaluation of the last weights, with all of them beside it."""
    main = next(one for one in found if one.subject == found[-1].subject)
    elo = [one.details["elo"] for one in found if "elo" in one.details]
    return {
        **asdict(main),
        "elo": elo[-1] if elo else None,
        "evaluations": [asdict(one) for one in found],
    }


def _header(text: str | None) -> bool | list[str] | None:
    if text is None:
        return None
    return False if text == "none" else [name.strip() for name in text.split(",")]


def _with_settings(wanted: Wanted, settings: Sequence[str]) -> Wanted:
    from dataclasses import replace

    rules = wanted.rules
    for name, value in map(_pair, settings):
        if name not in _SETTINGS:
            raise UsageError(f"--set knows no {name!r}; there is {', '.join(_SETTINGS)}")
        number = _number(name, value, _SETTINGS[name])
        if isinstance(number, int) and number < (name not in ("seed", "ladder_games")):
            raise UsageError(f"--set {name}={value}: it must be above 0")
        if hasattr(rules, name):
            rules = replace(rules, **{name: number})
        else:
            wanted = replace(wanted, **{name: number})
    return replace(wanted, rules=rules)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.rpartition("=") if text.count("=") == 1 else text.partition("=")
    if not (name and equals and value):
        raise UsageError(f"{text!r} is not NAME=VALUE, such as WhiteElo=2400")
    return name, value


def _number(name: str, text: str, kind: Callable[[str], Any]) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise UsageError(f"{name}={text}: a number is needed") from None
