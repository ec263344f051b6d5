"""`tunebook note`."""

from __future__ import annotations

import click


@click.command("note")
@click.argument("words", nargs=-1, required=True, metavar="RUN... TEXT")
@click.option("--tag", "tags", multiple=True, help="A word to find the runs by.")
def command(words: tuple[str, ...], tags: tuple[str, ...]) -> None:
    """Add a dated note to the pages of runs: the last argument is the text, in quotes."""
    if len(words) < 2:
        raise click.UsageError('give at least one run and the text: tunebook note RUN "text"')
    from tunebook.book.places import find_book
    from tunebook.workflows.note import write_note

    for page in write_note(find_book(), words[:-1], words[-1], tags):
        click.echo(str(page))
