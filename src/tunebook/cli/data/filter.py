"""`tunebook data filter`: rows through filters and rewrites, every one accounted for."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tunebook.cli.data.options import source_options
from tunebook.errors import TunebookError
from tunebook.units import format_count

if TYPE_CHECKING:
    from tunebook.data.filters.settings import Settings
    from tunebook.workflows.data_filter import Filtered

_SHOWN_CHARACTERS = 160


@click.command("filter")
@click.argument("path")
@click.option(
    "--filter",
    "filters",
    multiple=True,
    metavar="NAME[:KEY=VALUE,...]",
    help="Repeat it; filters run in that order. docs/filters.md lists them.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Where kept rows go, as JSON lines.")
@click.option(
    "--dropped", type=click.Path(path_type=Path), help="Where dropped rows go, with the reason."
)
@click.option("--force", is_flag=True, help="Write over outputs that are there.")
@click.option("--preview", default=3, show_default=True, help="Changed rows shown per rewrite.")
@source_options
@click.option("--stage", type=click.Choice(("cpt", "sft")), help="Default: cpt for text, else sft.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    path: str,
    filters: tuple[str, ...],
    out: Path | None,
    dropped: Path | None,
    force: bool,
    preview: int,
    data_format: str,
    stage: str | None,
    document: str,
    columns: dict[str, str],
    roles: dict[str, str],
    as_json: bool,
) -> None:
    """Take the rows of PATH through filters; say and write what is kept, changed and dropped.

    Exits with 1 when no row is left.
    """
    from tunebook.workflows import data_filter

    found = data_filter.filter_rows(
        path,
        [read_filter(text) for text in filters],
        out=out,
        dropped_out=dropped,
        force=force,
        preview=preview,
        data_format=data_format,
        columns=columns,
        document=document,
        roles=roles,
        stage=stage,
    )
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(found), ensure_ascii=False, indent=2))
    else:
        _print(found)
    if not found.rows_out:
        raise TunebookError(_nothing_left(found))


def _nothing_left(found: Filtered) -> str:
    why = ", ".join(f"{format_count(n)} {reason}" for reason, n in found.dropped.items())
    empty = f"; {found.out} is empty" if found.out is not None else ""
    return (
        f"{found.source}: nothing is left of {format_count(found.rows_in)} rows ({why}){empty}; "
        "loosen the filter that drops the most, or leave it out"
    )


def read_filter(text: str) -> dict[str, Settings]:
    r"""Read `name:key=value,key=value`; `\,` is a comma in a value."""
    from tunebook.data.filters import find_filter
    from tunebook.data.filters.settings import read_setting

    name, _, rest = text.partition(":")
    make = find_filter(name)
    settings = {}
    for part in rest.replace("\\,", "\0").split(",") if rest else []:
        key, equals, value = part.replace("\0", ",").partition("=")
        if not equals or not key.strip():
            raise click.BadParameter(
                f"{text!r}: {part!r} is not KEY=VALUE; write a comma inside a value as \\,"
            )
        settings[key.strip()] = read_setting(name, make, key.strip(), value)
    return {name: settings}


def _print(found: Filtered) -> None:
    click.echo(f"source     {found.source}")
    click.echo(f"format     {found.format}: {found.reason}")
    click.echo(f"rows       {format_count(found.rows_in)} in")
    width = max((len(format_count(n)) for n in found.dropped.values()), default=1)
    for reason, n_rows in found.dropped.items():
        ids = found.dropped_ids.get(reason, ())
        more = ", …" if n_rows > len(ids) else ""
        said = f"{format_count(n_rows):>{width}} {reason}: {', '.join(ids)}{more}"
        click.echo(f"dropped    {said}")
    click.echo(f"rows       {format_count(found.rows_out)} out")
    for name, n_rows in found.changed.items():
        click.echo(f"changed    {format_count(n_rows)} rows by {name}")
    for name in found.without_effect:
        click.echo(f"warning    filter {name} dropped or changed nothing")
    for change in found.preview:
        before, after = around_change(change.before, change.after)
        click.echo(f"preview    {change.rewrite}, {change.id}")
        click.echo(f"  before   {before}")
        click.echo(f"  after    {after}")
    if found.out is not None:
        lines = f"{format_count(found.out_lines)} lines, format {found.out_format}"
        if found.out_format is None:
            lines = "empty, no row is left"
        click.echo(f"kept       {found.out}: {lines}")
    if found.dropped_out is not None:
        click.echo(f"dropped    {found.dropped_out}: each with its reason and id")


def around_change(before: str, after: str) -> tuple[str, str]:
    """Cut two texts to the neighbourhood of their first difference, on one line each."""
    same = 0
    for one, other in zip(before, after, strict=False):
        if one != other:
            break
        same += 1
    start = max(0, same - _SHOWN_CHARACTERS // 4)

    def cut(text: str) -> str:
        shown = text[start : start + _SHOWN_CHARACTERS]
        head = "…" if start else ""
        tail = "…" if start + len(shown) < len(text) else ""
        return f"{head}{shown}{tail}".replace("\n", "⏎")

    return cut(before), cut(after)
