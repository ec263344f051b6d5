"""`tunebook data show`: a file as a model's tokenizer and template will see it."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import TYPE_CHECKING

import click

from tunebook.cli.data.options import source_options, token_options
from tunebook.units import format_count, format_percent

if TYPE_CHECKING:
    from tunebook.data.show import ShownData


@click.command("show")
@click.argument("path")
@token_options
@source_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    path: str,
    model: str,
    data_format: str,
    template: str,
    stage: str | None,
    document: str,
    columns: dict[str, str],
    roles: dict[str, str],
    as_json: bool,
) -> None:
    """Show the format of PATH, its rows and lengths, and one row with target tokens marked."""
    from tunebook.workflows import data_show

    found = data_show.show(
        path,
        model=model,
        data_format=data_format,
        template=template,
        stage=stage,
        columns=columns,
        roles=roles,
        document=document,
    )
    if as_json:
        click.echo(json.dumps(_as_json(found), ensure_ascii=False, indent=2))
    else:
        _print(found)


def _as_json(found: ShownData) -> dict[str, object]:
    whole = dataclasses.asdict(found)
    first = {
        "format": found.format,
        "rows": found.file_rows,
        "columns": list(found.columns),
        "source": found.source,
        "lengths": whole.pop("lengths"),
        "sample": whole.pop("sample"),
    }
    return {**first, **{key: value for key, value in whole.items() if key not in first}}


def _print(found: ShownData) -> None:
    click.echo(f"source     {found.source}")
    click.echo(f"format     {found.format}: {found.reason} (looked at {found.looked_at})")
    if found.columns:
        click.echo(f"columns    {', '.join(found.columns)}")
    dropped = sum(found.dropped.values())
    several = ""
    if found.file_rows != found.rows_in:
        several = f"{format_count(found.file_rows)} rows make "
    click.echo(
        f"rows       {several}{format_count(found.rows_in)} in, {format_count(dropped)} dropped, "
        f"{format_count(found.rows_out)} out; {format_count(found.documents)} documents"
    )
    for reason, n_rows in found.dropped.items():
        ids = found.dropped_ids.get(reason, ())
        more = ", …" if n_rows > len(ids) else ""
        click.echo(f"           {format_count(n_rows)} {reason}: {', '.join(ids)}{more}")
    share = format_percent(found.target_tokens / found.tokens)
    click.echo(f"tokens     {format_count(found.tokens)} of {found.tokenizer}; {share} carry loss")
    lengths = found.lengths
    click.echo(
        f"lengths    mean {lengths.mean:.1f}  median {lengths.median:.0f}  p95 {lengths.p95:.0f}  "
        f"max {lengths.max}"
    )
    for note in found.notes:
        click.echo(f"note       {note}")
    _print_sample(found)


def _print_sample(found: ShownData) -> None:
    """Print the row; on a terminal targets are bold green, else between double brackets."""
    from rich.console import Console
    from rich.text import Text

    click.echo(
        f"row        {found.sample_id}, stage {found.stage}, template {found.template}; target "
        "tokens are marked"
    )
    click.echo()
    console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
    if not console.is_terminal:
        click.echo(_bracketed(found))
        return
    text = Text()
    for token in found.sample:
        text.append(token.text, style="bold green" if token.target else "")
    console.print(text)


def _bracketed(found: ShownData) -> str:
    parts, inside = [], False
    for token in found.sample:
        if token.target != inside:
            parts.append("⟦" if token.target else "⟧")
            inside = token.target
        parts.append(token.text)
    return "".join(parts) + ("⟧" if inside else "")
