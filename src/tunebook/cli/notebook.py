"""`tunebook notebook`."""

from __future__ import annotations

import math

import click


@click.group("notebook")
def command() -> None:
    """Write the notebook's pages again."""


@command.command("build")
def build() -> None:
    """Write the page of every run and the index page; your own words stay."""
    from tunebook.book.places import find_book
    from tunebook.workflows.notebook import build_notebook

    book = find_book()
    changed = build_notebook(book, lambda text: click.echo(text, err=True), math.inf)
    for page in changed:
        click.echo(str(page))
    if not changed:
        click.echo("every page is up to date", err=True)
