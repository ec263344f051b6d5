"""`tunebook verdicts`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from tunebook.terminal import console

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tunebook.records import Diagnosis, Verdict
    from tunebook.workflows.versus_runs import Assumed

GATE_FAILED = 4


@click.command("verdicts")
@click.argument("name", metavar="RUN")
@click.option(
    "--fail-if",
    "gates",
    multiple=True,
    metavar="KIND|FAMILY",
    help="End with exit code 4 when such a verdict was found; may be repeated.",
)
@click.option(
    "--against",
    metavar="OTHER",
    help="Say what sets it apart from this run, or from its untouched `base`.",
)
@click.option("--suspect", metavar="KEY", help="With --against: the setting said to be the cause.")
@click.option(
    "--judge-n", default=100, show_default=True, help="Questions behind a judge's average."
)
@click.option(
    "--judge-sd", default=40.0, show_default=True, help="SD of the judge's score of a question."
)
@click.option(
    "--correlation", default=0.0, show_default=True, help="Between two runs' scores of a question."
)
@click.option("--json", "as_json", is_flag=True, help="Print the verdicts as a JSON list.")
def command(
    name: str,
    gates: tuple[str, ...],
    against: str | None,
    suspect: str | None,
    judge_n: int,
    judge_sd: float,
    correlation: float,
    as_json: bool,
) -> int:
    """Say what was wrong with a run, why, and what to do about it.

    The stored log is looked at again, so that detectors newer than the run have their say. With
    --against: which results differ, what changed, and what of that can be the cause. Averages of a
    judge without their questions, as a table has them, are compared by the assumptions stated.
    """
    from tunebook.book.places import find_book
    from tunebook.errors import UsageError
    from tunebook.kinds import kinds_of
    from tunebook.workflows.verdicts import find_verdicts

    try:
        gated = {kind for word in gates for kind in kinds_of(word)}
    except ValueError as error:
        raise UsageError(f"--fail-if: {error}") from None
    if against is not None:
        from tunebook.workflows.versus_runs import Assumed

        assumed = Assumed(judge_n, judge_sd, correlation)
        return _gate(_print_versus(name, against, assumed, suspect, as_json), gated)
    if suspect is not None:
        raise UsageError("--suspect goes with --against OTHER, the run that it is compared with")
    diagnosis = find_verdicts(find_book(), name)
    if as_json:
        from tunebook.book.codec import dump_json

        click.echo(dump_json(diagnosis.verdicts, indent=True).decode(), nl=False)
    else:
        _print(name, diagnosis)
    for kind in sorted(gated & diagnosis.not_looked_for.keys()):
        why = diagnosis.not_looked_for[kind]
        click.echo(f"note: {kind} could not be judged: {why}", err=True)
    return _gate(diagnosis.verdicts, gated)


def _gate(verdicts: Sequence[Verdict], gated: set[str]) -> int:
    found = sorted({n for v in verdicts if v.confidence != "amber" for n in v.names} & gated)
    if found:
        click.echo(f"found {', '.join(found)}, which --fail-if names", err=True)
    return GATE_FAILED if found else 0


def _print_versus(
    name: str, against: str, assumed: Assumed, suspect: str | None, as_json: bool
) -> Sequence[Verdict]:
    from tunebook.book.places import find_book
    from tunebook.cli.versus_text import versus_lines, versus_plain
    from tunebook.workflows.versus_runs import versus

    found = versus(find_book(), name, against, assumed, suspect)
    if as_json:
        from tunebook.book.codec import dump_json

        click.echo(dump_json(versus_plain(found), indent=True).decode(), nl=False)
    else:
        click.echo("\n".join(versus_lines(found)))
    return found.verdicts


def _print(name: str, diagnosis: Diagnosis) -> None:
    from tunebook.pages.verdicts import blind_lines, head_text

    blocks = [(head_text(v), list(_rows(name, v))) for v in diagnosis.verdicts]
    if not blocks:
        blocks = [(f"run {name} has no step to look at", [])]
    if lines := blind_lines(diagnosis):
        blocks.append(("not looked for", [("", line) for line in lines]))
    if sys.stdout.isatty():
        _print_rich(blocks)
        return
    for head, rows in blocks:
        click.echo(head)
        for key, text in rows:
            click.echo(f"  {key:<9} {text}" if key else f"  {text}")


def _rows(name: str, verdict: Verdict) -> Iterator[tuple[str, str]]:
    from tunebook.pages.verdicts import evidence_rows, next_command

    yield "cause", verdict.cause
    if verdict.kind == "no_fault_found":
        return
    evidence = [f"{key} {value}" for key, value in evidence_rows(verdict)]
    if evidence:
        yield "evidence", "; ".join(evidence)
    yield "next", verdict.next_action
    if line := next_command(name, verdict):
        yield "", line


def _print_rich(blocks: Sequence[tuple[str, Sequence[tuple[str, str]]]]) -> None:
    from rich.table import Table
    from rich.text import Text

    screen = console()
    for head, rows in blocks:
        screen.print(Text(head, style="bold"))
        grid = Table(box=None, show_header=False, padding=(0, 1), pad_edge=True)
        grid.add_column(style="dim", no_wrap=True)
        grid.add_column(overflow="fold")
        for key, text in rows:
            grid.add_row(key, Text(text))
        if rows:
            screen.print(grid)
