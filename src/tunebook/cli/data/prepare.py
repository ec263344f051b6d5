"""`tunebook data prepare`: tokenize a run's data before the run."""

from __future__ import annotations

import click

from tunebook.cli.data.options import shown_progress, worker_options, workers_of
from tunebook.units import format_count


@click.command("prepare")
@click.argument("run_file")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@worker_options
def command(
    run_file: str, overrides: tuple[str, ...], n_workers: int | None, on: str | None
) -> None:
    """Tokenize the data of RUN_FILE into its book, on this machine or many; training finds it."""
    from tunebook.workflows import data_stats

    def say(text: str) -> None:
        click.echo(text, err=True)

    with shown_progress() as watch:
        built = data_stats.prepare(
            run_file, overrides, workers=workers_of(n_workers, on), say=say, watch=watch
        )
    for one in built:
        facts = one.store.facts
        dropped = sum(facts["dropped"].values())
        click.echo(
            f"{one.name}: {format_count(facts['rows_in'])} rows in, {format_count(dropped)} "
            f"dropped, {format_count(facts['rows_out'])} out; {format_count(one.store.n_tokens)} "
            "tokens ready"
        )
