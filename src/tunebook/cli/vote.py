"""Blind voting in the terminal, for `tunebook compare --blind`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tunebook.units import format_number

if TYPE_CHECKING:
    from tunebook.records import Evaluation
    from tunebook.workflows.blind import Ballot, Vote

_KEYS = "1/2/t(ie)/s(kip)/q(uit)"


def vote_blind(names: Sequence[str], book: Path, ask: str | None, seed: int) -> Evaluation:
    """Show pair after pair until all have a vote or the voter quits; gives what it came to."""
    from tunebook.workflows.blind import ask_both, count_votes, open_voting

    if ask is not None:
        ask_both(names, book, ask, lambda text: click.echo(text, err=True))
    with open_voting(names, book, seed=seed) as voting:
        for number, ballot in enumerate(voting.waiting, start=1):
            _show(ballot, f"{number} of {len(voting.waiting)}")
            vote = _read_vote()
            if vote is None:
                break
            voting.cast(ballot, vote)
        return count_votes(voting, book)


def vote_lines(found: Evaluation) -> Iterator[str]:
    """Write what the votes came to."""
    from tunebook.cli.compare import comparison_lines
    from tunebook.pages.evaluations import scored_text

    details = dict[str, Any](found.details)
    yield (
        f"won against {found.against}: {scored_text(found.score, found.interval)}; "
        f"{details['votes']} votes, {details['ties']} ties, {details['skipped']} skipped, "
        f"{details['waiting']} still to vote on"
    )
    if found.comparison is not None:
        yield "against an even share"
        yield from comparison_lines(found.comparison)
    if details["position_p"] is not None:
        biased = "; the place was voted for, not the answer" if details["position_p"] < 0.05 else ""
        yield (
            f"place       the answer shown first won {details['first_won']} of {details['votes']}, "
            f"p {format_number(details['position_p'])}{biased}"
        )


def _show(ballot: Ballot, place: str) -> None:
    for title, text in (
        (place, ballot.question),
        ("[1]", ballot.shown[0]),
        ("[2]", ballot.shown[1]),
    ):
        click.echo(f"\n{click.style(title, bold=True)}\n{text}", err=True)
    click.echo(f"\nwhich is better? {_KEYS} ", nl=False, err=True)


def _read_vote() -> Vote | None:
    """Read one key, or a line where there is no terminal; None to quit."""
    while True:
        said = click.getchar() if sys.stdin.isatty() else sys.stdin.readline()
        key = said.strip().lower()[:1]
        if said == "" or key in ("q", "\x04"):
            click.echo(err=True)
            return None
        if key in ("1", "2", "t", "s"):
            click.echo(key, err=True)
            vote: Vote = key  # type: ignore[assignment]
            return vote
        click.echo(f"`{key}` is none of {_KEYS} ", nl=False, err=True)
