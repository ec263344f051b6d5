"""`tunebook ui`."""

from __future__ import annotations

import click

from tunebook.cli.main import Options


@click.command("ui")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=7878,
    show_default=True,
    help="0: any that is free.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--token",
    envvar="TUNEBOOK_UI_TOKEN",
    help="What visitors must know; needed to listen for other machines.",
)
@click.pass_obj
def command(options: Options, port: int, host: str, token: str | None) -> None:
    """Show the book on pages in the browser, live; Ctrl-C ends it.

    Runs, curves, comparisons, answers side by side, lineage and pages. Notes, tags, votes and the
    hypothesis of a run that has not begun can be written there, and nothing else.
    """
    from tunebook.book.places import find_book
    from tunebook.web.serve import serve

    serve(find_book(), host, port, token, click.echo, debug=options.debug)
