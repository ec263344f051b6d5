"""`tunebook init`."""

from __future__ import annotations

import shlex

import click


@click.command("init")
@click.argument("folder", metavar="FOLDER")
def command(folder: str) -> None:
    """Make a book: the folder that holds runs and their notebook."""
    from tunebook.workflows.init import init_book

    book = init_book(folder)
    click.echo(f"book: {book}")
    click.echo(f"next: cd {shlex.quote(str(folder))} && tunebook new NAME", err=True)
