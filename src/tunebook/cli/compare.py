"""`tunebook compare`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tunebook.units import format_count, format_number, format_percent

if TYPE_CHECKING:
    from tunebook.records import Comparison, Estimate
    from tunebook.workflows.compare_runs import RunsCompared
    from tunebook.workflows.standing import Ranked


@click.command("compare")
@click.argument("subjects", nargs=-1, metavar="A B ...")
@click.option(
    "--by",
    "kind",
    help="What to compare: loss (the default), judge, pairs, probe, chess (legal moves), "
    "chess-puzzles, chess-games or harness:TASK.",
)
@click.option("--scores", is_flag=True, help="A and B are files of scores made elsewhere.")
@click.option(
    "--margin",
    type=float,
    help="Differences below this do not matter.  [default: by kind; 0.01 nats, 3 points of 100]",
)
@click.option("--shared-only", is_flag=True, help="Compare on the items that all have.")
@click.option(
    "--across-wordings",
    is_flag=True,
    help="Pair questions by their id, whatever they say: other wordings of an instruction.",
)
@click.option("--sort", metavar="KEY", help="Sort runs by a setting, and compare neighbours.")
@click.option("--blind", is_flag=True, help="Vote on the answers of two without their names.")
@click.option(
    "--ask",
    metavar="FILE",
    help="With --blind: first let both answer these questions, a JSONL file of "
    '{"prompt": ..., "reference": ...} (the reference may be left out).',
)
@click.option("--seed", default=0, show_default=True, help="With --blind: draws sides and order.")
@click.option("--standing", is_flag=True, help="Rank runs by what a judge preferred in pairs.")
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
def command(
    subjects: tuple[str, ...],
    kind: str | None,
    scores: bool,
    margin: float | None,
    shared_only: bool,
    across_wordings: bool,
    sort: str | None,
    standing: bool,
    blind: bool,
    ask: str | None,
    seed: int,
    as_json: bool,
) -> None:
    """Compare scores on the same items: different, equivalent or cannot tell.

    A and B are runs that were evaluated: RUN, RUN/base, RUN/best, RUN/step-N, or RUN@KEY=VALUE for
    an evaluation with that setting. With --scores, they are JSON lists of numbers (paired by
    place), lists of {"id", "score"}, or the .jsonl of an evaluation; null is a missing score. No
    book is needed for those.
    """
    if scores:
        if kind or sort or across_wordings or standing:
            raise click.UsageError("--scores goes with --margin and --shared-only alone")
        plain, lines = _compare_files(subjects, margin, shared_only)
    elif blind:
        from tunebook.book.places import find_book
        from tunebook.cli.vote import vote_blind, vote_lines

        voted = vote_blind(subjects, find_book(), ask, seed)
        plain, lines = voted, list(vote_lines(voted))
    elif standing:
        from tunebook.book.places import find_book
        from tunebook.workflows.standing import rank

        ranked = rank(subjects, find_book())
        plain, lines = ranked, _standing_lines(ranked)
    else:
        from tunebook.book.places import find_book
        from tunebook.workflows.compare_runs import compare_runs

        found = compare_runs(
            subjects,
            find_book(),
            kind=kind or "loss",
            margin=margin,
            shared_only=shared_only,
            across_wordings=across_wordings,
            sort=sort,
        )
        for finding in found.findings:
            click.echo(f"{finding.name}: {finding.message} {finding.way_out}", err=True)
        for note in found.notes:
            click.echo(f"note: {note}", err=True)
        plain, lines = found.plain(), _run_lines(found)
    if as_json:
        from tunebook.book.codec import dump_json

        click.echo(dump_json(plain, indent=True).decode(), nl=False)
    else:
        click.echo("\n".join(lines))


def _standing_lines(found: Ranked) -> list[str]:
    strengths, groups = found.standing.strengths, found.standing.groups
    width = max(len(one.name) for one in strengths)
    lines = [
        f"{one.name.ljust(width)}  {format_number(one.strength)}{_interval(one.interval)}, "
        f"{one.wins:g} of {one.judged:,} won"
        for one in strengths
    ]
    lines += [f"cannot be told apart: {', '.join(group)}" for group in groups if len(group) > 1]
    n = found.judgings
    judged = f"log-odds against the mean, from {n:,} judging{'s' * (n != 1)} in pairs"
    if found.left_out:
        judged += f"; {found.left_out:,} of another judge or prompt left out"
    return [*lines, judged]


def _compare_files(
    names: Sequence[str], margin: float | None, shared_only: bool
) -> tuple[object, list[str]]:
    from tunebook.pages.comparison import plain_pairs
    from tunebook.workflows.compare import compare_files

    found = compare_files([Path(name) for name in names], margin=margin, shared_only=shared_only)
    for note in found.notes:
        click.echo(f"note: {note}", err=True)
    pairs = plain_pairs(found.estimates, found.pairs)
    # One object for one pair, and a list of them for more.
    plain = pairs[0] if len(pairs) == 1 else pairs
    return plain, [*_score_lines(found.estimates), *_pair_lines(found.pairs)]


def _run_lines(found: RunsCompared) -> list[str]:
    lines = [f"{found.kind}, {found.unit}" + (f", on {found.asked}" if found.asked else "")]
    lines += _score_lines(found.estimates, found.sorted_by)
    lines += _pair_lines(found.pairs, found.by_tag)
    if found.chance_best is not None:
        chances = sorted(found.chance_best.items(), key=lambda one: -one[1])
        shown = ", ".join(f"{name} {format_percent(chance)}" for name, chance in chances)
        lines += ["", f"chance of being the best: {shown}"]
    return lines


def _score_lines(
    estimates: Mapping[str, Estimate], sorted_by: Mapping[str, object] | None = None
) -> list[str]:
    width = max(len(name) for name in estimates)
    values = {name: f"  {value}" for name, value in (sorted_by or {}).items()}
    wide = max(map(len, values.values()), default=0)
    return [
        f"{name.ljust(width)}{values.get(name, '').ljust(wide)}  {format_number(one.score)}"
        f"{_interval(one.interval)}, n {one.n:,}"
        + (f", {one.missing:,} missing" if one.missing else "")
        for name, one in estimates.items()
    ]


def _pair_lines(
    pairs: Mapping[tuple[str, str], Comparison],
    by_tag: Mapping[tuple[str, str], Mapping[str, Comparison]] | None = None,
) -> list[str]:
    from tunebook.statistics.words import verdict_text

    lines = []
    for (a, b), compared in pairs.items():
        lines += ["", f"{a} minus {b}", *comparison_lines(compared, looks=len(pairs))]
        tags = (by_tag or {}).get((a, b), {})
        lines += [
            f"  {tag}: {format_number(one.difference)}{_interval(one.interval)}, n {one.n:,}: "
            f"{verdict_text(one)}"
            for tag, one in tags.items()
        ]
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
        missing = (
            "if the missing scores are no lower and no higher than those seen"
            if found.scale is None
            else "whatever the missing scores are, from {:g} to {:g}".format(*found.scale)
        )
        lines.append(f"bounds      {low} to {high}, {missing}")
    if found.detectable:
        detectable, margin = format_number(found.detectable), format_number(found.margin)
        lines.append(
            f"power       {format_count(found.n)} items show a difference of {detectable} in "
            f"80 % of cases; the margin is {margin}"
        )
    return lines


def _interval(interval: tuple[float, float] | None) -> str:
    if interval is None:
        return ""
    low, high = interval
    return f" (95 % interval {format_number(low)} to {format_number(high)})"
