"""`tunebook data show`: a file as a model's tokenizer and template will see it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tunebook.cli.data.options import source_options, token_options
from tunebook.terminal import console
from tunebook.units import format_bytes, format_count, format_percent

if TYPE_CHECKING:
    from tunebook.data.show import ShownData

_SHOWN_LINES = 40
_SHOWN_CHARACTERS = 4000
_SAID_FROM_BYTES = 8 << 20  # what takes more than ten seconds to tokenize as a single row


@click.command("show")
@click.argument("path")
@token_options
@source_options
@click.option("--full", is_flag=True, help="Print the whole row, however long it is.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, the row whole.")
def command(
    path: str,
    model: str,
    data_format: str,
    template: str,
    stage: str | None,
    document: str,
    columns: dict[str, str],
    roles: dict[str, str],
    full: bool,
    as_json: bool,
) -> None:
    """Show the format of PATH, its rows and lengths, and one row with target tokens marked."""
    from tunebook.workflows import data_show

    file = Path(path)
    if file.is_file() and (size := file.stat().st_size) > _SAID_FROM_BYTES:
        click.echo(f"tokenizing {format_bytes(size)}", err=True)
    found = data_show.show(
        path,
        model=model,
        data_format=data_format,
        template=template,
        stage=stage,
        columns=columns,
        roles=roles,
        document=document,
        whole=full or as_json,
    )
    if as_json:
        click.echo(json.dumps(_as_json(found), ensure_ascii=False, indent=2))
    else:
        _print(found, full=full)


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


def _print(found: ShownData, *, full: bool) -> None:
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
    _print_sample(found, full=full)


def _print_sample(found: ShownData, *, full: bool) -> None:
    """Print the row; on a terminal targets are bold green, else between double brackets."""
    from rich.text import Text

    click.echo(
        f"row        {found.sample_id}, stage {found.stage}, template {found.template}; target "
        "tokens are marked"
    )
    click.echo()
    parts = [(token.text, token.target) for token in found.sample]
    left_out = 0
    if not full:
        parts, left_out = _begin(parts)
    screen = console(highlight=False, soft_wrap=True)
    if screen.is_terminal:
        text = Text()
        for said, target in parts:
            text.append(said, style="bold green" if target else "")
        screen.print(text)
    else:
        click.echo(_bracketed(parts))
    if len(found.sample) < found.sample_tokens:
        click.echo(f"… the row has {format_count(found.sample_tokens)} tokens (--full shows all)")
    elif left_out:
        more = "character" if left_out == 1 else "characters"
        click.echo(f"… {format_count(left_out)} {more} more (--full shows all)")


def _begin(whole: list[tuple[str, bool]]) -> tuple[list[tuple[str, bool]], int]:
    """Keep the first lines of a row and count the characters of the rest."""
    kept: list[tuple[str, bool]] = []
    characters, lines = _SHOWN_CHARACTERS, _SHOWN_LINES
    for text, target in whole:
        fits = text[:characters]
        pieces = fits.split("\n")
        fits = "\n".join(pieces[:lines])
        kept.append((fits, target))
        characters -= len(fits)
        lines -= min(len(pieces), lines) - 1
        if len(fits) < len(text):
            break
    n_kept = sum(len(text) for text, _ in kept)
    return kept, sum(len(text) for text, _ in whole) - n_kept


def _bracketed(tokens: list[tuple[str, bool]]) -> str:
    parts, inside = [], False
    for text, target in tokens:
        if target != inside:
            parts.append("⟦" if target else "⟧")
            inside = target
        parts.append(text)
    return "".join(parts) + ("⟧" if inside else "")
