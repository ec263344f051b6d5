"""`tunebook reindex`."""

from __future__ import annotations

import click


@click.command("reindex")
def command() -> None:
    """Rebuild the index from the run folders; deleting the index loses nothing."""
    from tunebook.book.places import find_book
    from tunebook.workflows.reindex import reindex_book

    count = reindex_book(find_book())
    click.echo(f"{count} run{'s' * (count != 1)} indexed")
