"""`tunebook clean`."""

from __future__ import annotations

import click


@click.command("clean")
@click.option("--dry-run", is_flag=True, help="Only say what would be deleted.")
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
def command(dry_run: bool, as_json: bool) -> None:
    """Delete superseded checkpoints, half-written folders, unused token caches and served copies.

    Never best, final, or weights that another run started from.
    """
    from tunebook.book.codec import dump_json
    from tunebook.book.places import find_book
    from tunebook.units import format_bytes
    from tunebook.workflows.clean import clean_book

    book = find_book()
    removals = clean_book(book, dry_run=dry_run, say=lambda text: click.echo(text, err=True))
    if as_json:
        click.echo(dump_json(removals, indent=True).decode(), nl=False)
        return
    for removal in removals:
        place = removal.path.relative_to(book)
        click.echo(f"{format_bytes(removal.bytes):>10}  {removal.reason}  {place}")
    total = format_bytes(sum(removal.bytes for removal in removals))
    words = "would be freed" if dry_run else "freed"
    click.echo(f"{total} {words}" if removals else "nothing to clean", err=not removals)
