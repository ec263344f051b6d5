"""`tunebook data split`: which rows are held out, and which part has which."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tunebook.cli.data.mix import print_columns
from tunebook.cli.data.options import source_options, token_options
from tunebook.units import format_count

if TYPE_CHECKING:
    from tunebook.workflows.data_split import SplitShown


@click.command("split")
@click.argument("target", metavar="PATH|RUN_FILE")
@click.argument("overrides", nargs=-1, metavar="[key=value]...")
@click.option("--fraction", type=click.FloatRange(0, 1, max_open=True), help="Share held out.")
@click.option("--parts", type=click.IntRange(2, 1000), help="Cut what is trained on into parts.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="A folder to write the rows of each side into."
)
@click.option("--force", is_flag=True, help="Write over files that are there.")
@source_options
@token_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    target: str,
    overrides: tuple[str, ...],
    fraction: float | None,
    parts: int | None,
    out: Path | None,
    force: bool,
    data_format: str,
    document: str,
    columns: dict[str, str],
    roles: dict[str, str],
    model: str,
    template: str,
    stage: str | None,
    as_json: bool,
) -> None:
    """Show how many rows and documents of PATH, or of a run's sources, go where.

    With --out the rows of each side are written as JSON lines. What says what the data is and
    how it becomes tokens (--format to --stage) is for a data file; a run file states its own.
    """
    from tunebook.workflows.data_split import split

    found = split(
        target,
        overrides,
        fraction=fraction,
        parts=parts,
        out=out,
        force=force,
        data_format=data_format,
        document=document,
        columns=columns,
        roles=roles,
        model=model,
        template=template,
        stage=stage,
        say=lambda text: click.echo(text, err=True),
    )
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(found), ensure_ascii=False, indent=2))
    else:
        _print(found)


def _print(found: SplitShown) -> None:
    dropped = sum(found.dropped.values())
    keys = ("rows", "documents", "examples", "tokens")
    lines = [
        [side.name, *(format_count(getattr(side, key)) for key in keys)] for side in found.sides
    ]
    total = sum(side.rows for side in found.sides)
    print_columns(["side", *keys], lines)
    torn = total + dropped - found.rows_in
    why = ", ".join(f"{format_count(n)} {reason}" for reason, n in found.dropped.items())
    click.echo(
        f"{format_count(found.rows_in)} rows in: {format_count(found.rows_in - dropped)} used, "
        f"{format_count(dropped)} dropped{f' ({why})' if why else ''}"
    )
    if torn:
        click.echo(
            "a row that is cut into pieces counts on every side that has one: the sides add up to "
            f"{format_count(total)} rows"
        )
    click.echo(f"held out and trained on all the same: {format_count(found.held_out_and_trained)}")
    if len(found.sides) > 2:
        click.echo(f"in more than one part: {format_count(found.in_several_parts)}")
    for path in found.files:
        click.echo(f"wrote {path}")
