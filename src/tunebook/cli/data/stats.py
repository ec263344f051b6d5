"""`tunebook data stats`: where rows went, and how long they are."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import click

from tunebook.cli.data.options import (
    shown_progress,
    source_options,
    token_options,
    worker_options,
    workers_of,
)
from tunebook.units import format_count, format_percent

if TYPE_CHECKING:
    from tunebook.data.stats import Distribution, SourceStats


@click.command("stats")
@click.argument("target", metavar="PATH|RUN_FILE")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@token_options
@source_options
@worker_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per source, by name.")
def command(
    target: str,
    overrides: tuple[str, ...],
    model: str,
    template: str,
    stage: str | None,
    data_format: str,
    document: str,
    columns: dict[str, str],
    roles: dict[str, str],
    n_workers: int | None,
    on: str | None,
    as_json: bool,
) -> None:
    """Measure a data file, or every source of a run file as its run would see it."""
    from tunebook.workflows import data_stats

    with shown_progress() as watch:
        found = data_stats.stats(
            target,
            overrides,
            model=model,
            data_format=data_format,
            template=template,
            stage=stage,
            columns=columns,
            roles=roles,
            document=document,
            workers=workers_of(n_workers, on),
            watch=watch,
        )
    if as_json:
        by_name = {one.name: dataclasses.asdict(one) for one in found}
        click.echo(json.dumps(by_name, ensure_ascii=False, indent=2))
        return
    for place, one in enumerate(found):
        if place:
            click.echo()
        _print(one)


def _print(found: SourceStats) -> None:
    several = ""
    if found.file_rows != found.rows_in:
        several = f"{format_count(found.file_rows)} rows make "
    click.echo(f"source     {found.path} ({found.name})")
    click.echo(f"format     {found.format}, template {found.template}")
    dropped = sum(found.dropped.values())
    click.echo(
        f"rows       {several}{format_count(found.rows_in)} in, {format_count(dropped)} dropped, "
        f"{format_count(found.rows_out)} out; {format_count(found.documents)} documents"
    )
    for reason, n_rows in found.dropped.items():
        click.echo(f"           {format_count(n_rows)} {reason}")
    click.echo(f"repeated   {format_count(found.repeated_rows)} rows say what an earlier one says")
    if found.tokens:
        share = format_percent(found.target_tokens / found.tokens)
        spelt = f", {found.bytes_per_token:.2f} bytes per token" if found.bytes_per_token else ""
        click.echo(
            f"tokens     {format_count(found.tokens)}; {format_count(found.target_tokens)} "
            f"({share}) carry loss{spelt}"
        )
    if found.cut_rows:
        click.echo(
            f"cut        {format_count(found.cut_rows)} rows lost "
            f"{format_count(found.cut_tokens)} tokens"
        )
    _print_lengths("lengths", found.lengths)
    _print_lengths("targets", found.target_lengths)
    for note in found.notes:
        click.echo(f"note       {note}")


def _print_lengths(title: str, found: Distribution | None) -> None:
    if found is None:
        return
    points = "  ".join(f"{name} {value:g}" for name, value in found.percentiles.items())
    click.echo(
        f"{title:10s} n {format_count(found.n)}  mean {found.mean:.1f}  min {found.min}  {points}  "
        f"max {format_count(found.max)}"
    )
