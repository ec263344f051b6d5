"""`tunebook compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tunebook.units import format_count, format_number

if TYPE_CHECKING:
    from tunebook.records import Comparison
    from tunebook.workflows.compare import Compared


@click.command("compare")
@click.argument("subjects", nargs=-1, metavar="A B ...")
@click.option("--scores", is_flag=True, help="A and B are files of scores made elsewhere.")
@click.option(
    "--margin",
    type=float,
    help="Differences below this do not matter.  [default: 3, or 0.03 for scores from 0 to 1]",
)
@click.option("--shared-only", is_flag=True, help="Compare on the items that both have.")
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
def command(
    subjects: tuple[str, ...], scores: bool, margin: float | None, shared_only: bool, as_json: bool
) -> None:
    """Compare scores on the same items: different, equivalent or cannot tell.

    With --scores, A and B are JSON lists of numbers (paired by place), lists of {"id", "score"},
    or the .jsonl of an evaluation; null is a missing score. No book is needed.
    """
    from tunebook.errors import UsageError
    from tunebook.workflows.compare import compare_files

    if not scores:
        raise UsageError("say what is compared: `tunebook compare --scores a.json b.json`")
    found = compare_files([Path(name) for name in subjects], margin=margin, shared_only=shared_only)
    for note in found.notes:
        click.echo(f"note: {note}", err=True)
    if as_json:
        from tunebook.book.codec import dump_json

        click.echo(dump_json(_plain(found), indent=True).decode(), nl=False)
    else:
        click.echo("\n".join(_lines(found)))


def _plain(found: Compared) -> object:
    """Give one object for one pair, and a list of them for more."""
    from dataclasses import asdict

    pairs = [
        {
            "subjects": names,
            "scores": [
                {"score": one.score, "interval": one.interval, "n": one.n}
                for one in (found.estimates[name] for name in names)
            ],
            **asdict(compared),
        }
        for names, compared in found.pairs.items()
    ]
    return pairs[0] if len(pairs) == 1 else pairs


def _lines(found: Compared) -> list[str]:
    width = max(len(name) for name in found.estimates)
    lines = [
        f"{name.ljust(width)}  {format_number(one.score)}{_interval(one.interval)}, n {one.n:,}"
        + (f", {one.missing:,} missing" if one.missing else "")
        for name, one in found.estimates.items()
    ]
    for (a, b), compared in found.pairs.items():
        lines += ["", f"{a} minus {b}", *comparison_lines(compared, looks=len(found.pairs))]
    return lines


def comparison_lines(found: Comparison, looks: int = 1) -> list[str]:
    """Write a comparison for the terminal; `looks` is the number of pairs shown."""
    from tunebook.statistics.words import verdict_text

    small = found.p_equivalent is not None and found.p_equivalent < 0.05
    lines = [f"verdict     {verdict_text(found)}"]
    lines.append(
        f"difference  {format_number(found.difference)}{_interval(found.interval)}, "
        f"n {format_count(found.n)}"
        + (f" in {format_count(found.clusters)} clusters" if found.clusters < found.n else "")
    )
    if found.p is not None:
        corrected = (
            f", {format_number(found.p_adjusted)} corrected for {looks} pairs"
            if looks > 1 and found.p_adjusted is not None
            else ""
        )
        lines.append(f"p           {format_number(found.p)} of no difference{corrected}")
    if found.verdict == "different" and small:
        lines.append("small       the difference is there, and below the margin")
    if found.bounds:
        low, high = (format_number(bound) for bound in found.bounds)
        lines.append(f"bounds      {low} to {high}, whatever the missing scores are")
    if found.detectable:
        lines.append(
            f"power       so many items show a difference of {format_number(found.detectable)} in "
            f"80 % of cases; the margin is {format_number(found.margin)}"
        )
    return lines


def _interval(interval: tuple[float, float] | None) -> str:
    if interval is None:
        return ""
    low, high = interval
    return f" (95 % interval {format_number(low)} to {format_number(high)})"
