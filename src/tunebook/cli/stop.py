"""`tunebook stop`."""

from __future__ import annotations

import click


@click.command("stop")
@click.argument("name", metavar="RUN")
def command(name: str) -> None:
    """Ask a running run to save and pause at its next step."""
    from tunebook.book.places import find_book
    from tunebook.workflows.stop import stop_run

    stop_run(find_book(), name)
    click.echo(
        f"run {name} saves and pauses after its current step; `tunebook resume {name}` goes on",
        err=True,
    )
