"""`tunebook data chess`: games of chess, checked, counted, and written as PGN or questions."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tunebook.terminal import redraw
from tunebook.units import format_count

if TYPE_CHECKING:
    from tunebook.data.chess.survey import Survey

_TASKS = ("result", "next_move", "masked_moves", "last_move", "best_move")


@click.command("chess")
@click.argument("path")
@click.option(
    "--task", "tasks", multiple=True, type=click.Choice(_TASKS), help="What is asked; repeatable."
)
@click.option("--out", type=click.Path(path_type=Path), help="Write the questions, as .jsonl.")
@click.option("--pgn", type=click.Path(path_type=Path), help="Write the games as PGN.")
@click.option("--keep-going", is_flag=True, help="Count bad games and leave them out.")
@click.option("--engine", help="Stockfish, for best_move; by default found on PATH.")
@click.option("--depth", type=click.IntRange(min=1), help="How many plies deep it searches.")
@click.option("--limit", type=click.IntRange(min=1), help="Read at most this many games.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="As per_game=2.")
@click.option("--column", "columns", multiple=True, metavar="NAME=OWN", help="As Moves=moves.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    path: str,
    tasks: tuple[str, ...],
    out: Path | None,
    pgn: Path | None,
    keep_going: bool,
    engine: str | None,
    depth: int | None,
    limit: int | None,
    settings: tuple[str, ...],
    columns: tuple[str, ...],
    as_json: bool,
) -> None:
    """Play the games of PATH (UCI rows or PGN) through, count them and ask about them.

    The first game with an illegal move is refused by name, unless --keep-going leaves it out. --set
    takes what `data[].chess` takes in a run file.
    """
    from tunebook.workflows import data_chess

    began = time.monotonic()
    survey = data_chess.convert(
        path,
        tasks=tasks,
        settings=settings,
        columns=dict(_pair(column) for column in columns),
        out=out,
        pgn=pgn,
        engine=engine,
        depth=depth,
        limit=limit,
        keep_going=keep_going,
        progress=_progress(began),
    )
    seconds = time.monotonic() - began
    if as_json:
        found = survey.as_json() | {"seconds": round(seconds, 3)}
        click.echo(json.dumps(found, ensure_ascii=False, indent=2))
        return
    _print(survey, seconds)
    for target in (out, pgn):
        if target is not None:
            click.echo(f"written    {target}")


def _pair(column: str) -> tuple[str, str]:
    name, equals, own = column.partition("=")
    if not (name and equals and own):
        raise click.BadParameter(f"{column!r} is not NAME=OWN, such as Moves=moves", None)
    return name, own


def _progress(began: float) -> Callable[[int], None]:
    """Say on stderr how far it is, twice a second on a terminal and every ten seconds elsewhere."""
    terminal = sys.stderr.isatty()
    every = 0.5 if terminal else 10.0
    last = began

    def progress(n_games: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < every:
            return
        last = now
        text = f"{format_count(n_games)} games, {n_games / (now - began):,.0f}/s"
        if terminal:
            redraw(text)
        else:
            click.echo(text, err=True)

    return progress


def _print(survey: Survey, seconds: float) -> None:
    if sys.stderr.isatty():
        redraw()
    dropped = sum(survey.dropped.values())
    speed = survey.games_in / seconds if seconds else 0.0
    click.echo(f"source     {survey.path}")
    click.echo(f"format     {survey.format}")
    click.echo(
        f"games      {format_count(survey.games_in)} in, {format_count(dropped)} dropped, "
        f"{format_count(survey.games)} out, every move legal; {speed:,.0f} games/s"
    )
    for reason, said in survey.drops.items():
        click.echo(f"           {format_count(survey.dropped[reason])} {reason}: {said[0]}")
    mean = survey.plies / survey.games
    click.echo(f"plies      {format_count(survey.plies)}, mean {mean:.1f}")
    click.echo(f"results    {_counts(sorted(survey.results.items()))}")
    if survey.elo:
        click.echo(f"elo        {survey.elo[0]} to {survey.elo[1]}")
    if survey.openings:
        click.echo(f"openings   {_counts(survey.openings.most_common(5))}")
    click.echo(f"tasks      {_counts(sorted(survey.tasks.items())) or 'none'}")
    if survey.unasked:
        click.echo(f"           {format_count(survey.unasked)} games allow no such question")
    for task, row in survey.examples.items():
        click.echo(f"\n{task} ({row['id']})\n")
        click.echo("\n".join(f"  {line}".rstrip() for line in str(row["prompt"]).splitlines()))
        worth = f"   evaluation {row['evaluation']}" if "evaluation" in row else ""
        click.echo(f"\n  => {row['completion']}{worth}")


def _counts(pairs: list[tuple[str, int]]) -> str:
    return ", ".join(f"{name} {format_count(n)}" for name, n in pairs)
