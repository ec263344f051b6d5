"""`tunebook lineage`."""

from __future__ import annotations

import shutil
import sys

import click


@click.command("lineage")
@click.argument("name", metavar="[RUN]", required=False)
@click.option("--mermaid", is_flag=True, help="Print Mermaid text, for a page.")
@click.option("--json", "as_json", is_flag=True, help="Print nodes and edges as JSON.")
def command(name: str | None, mermaid: bool, as_json: bool) -> None:
    """Show which run comes from which: weights, settings, and runs that went on as others.

    With RUN, only what it comes from and what came from it. A run stands below the run it extends,
    with what it changes; `tunebook show RUN --settings` says where each value comes from.
    """
    if mermaid and as_json:
        raise click.UsageError("--mermaid and --json are two outputs; ask for one of them")
    from tunebook.book.places import find_book
    from tunebook.workflows.lineage import book_lineage

    found = book_lineage(find_book(), name)
    if as_json:
        from tunebook.book.codec import dump_json

        click.echo(dump_json(found.as_json(), indent=True).decode(), nl=False)
    elif mermaid:
        click.echo(found.mermaid(), nl=False)
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        click.echo("\n".join(found.tree(width)) or "no run yet; `tunebook new NAME` starts one")
