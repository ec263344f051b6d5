"""`tunebook notebook`."""

from __future__ import annotations

import math
from pathlib import Path

import click


@click.group("notebook")
def command() -> None:
    """Write the notebook's pages again."""


@command.command("build")
@click.option(
    "--html",
    is_flag=False,
    flag_value="",
    metavar="[FILE]",
    help="Also write the whole book into one file to give away, notebook.html in the book; one of "
    "that name is replaced.",
)
def build(html: str | None) -> None:
    """Write the page of every run and the index page; your own words stay."""
    from tunebook.book.places import find_book
    from tunebook.workflows.notebook import build_notebook

    book = find_book()
    kept: list[str] = []

    def say(text: str) -> None:
        kept.append(text)
        click.echo(text, err=True)

    changed = build_notebook(book, say, math.inf, every_page=True)
    for page in changed:
        click.echo(str(page))
    if html is not None:
        from tunebook.units import format_bytes
        from tunebook.web.offline import write_offline

        path = Path(html) if html else book / "notebook.html"
        n_bytes = write_offline(book, path)
        click.echo(str(path))
        click.echo(f"wrote {format_bytes(n_bytes)}", err=True)
    elif not changed:
        which = "every other page" if kept else "every page"
        click.echo(f"{which} is up to date", err=True)
