"""`tunebook ui`."""

from __future__ import annotations

import click

from tunebook.cli.main import Options
from tunebook.errors import UsageError

NO_TOKEN = (
    "without a token every account of this machine can read this book and write to it; leave out "
    "--no-token unless you are the only one"
)
NOT_ENCRYPTED = (
    "what is sent between machines is not encrypted, the token neither; on a network that others "
    "share, keep to 127.0.0.1 and go through ssh -L"
)


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
    help="What visitors must know, instead of the token that the book keeps.",
)
@click.option("--no-token", is_flag=True, help="Let in every account of this machine.")
@click.option(
    "--name",
    "names",
    multiple=True,
    help="A host name that the pages answer to beside this machine's own; can be given again.",
)
@click.pass_obj
def command(
    options: Options,
    port: int,
    host: str,
    token: str | None,
    no_token: bool,
    names: tuple[str, ...],
) -> None:
    """Show the book on pages in the browser, live; Ctrl-C ends it.

    Runs, curves, comparisons, answers side by side, lineage and pages. Notes, tags, votes and the
    hypothesis of a run that has not begun can be written there, and nothing else. Open the address
    that is printed: it holds the token without which no page is shown.
    """
    from tunebook.book.places import find_book
    from tunebook.web.guard import LOOPBACK
    from tunebook.web.serve import serve
    from tunebook.web.start_token import start_token

    if no_token and token is not None:
        raise UsageError(
            "--no-token and a token (--token or TUNEBOOK_UI_TOKEN) exclude each other; leave out "
            "one of them"
        )
    book, warnings = find_book(), []
    if no_token:
        warnings.append(NO_TOKEN)
    elif token is None:
        token, said = start_token(book)
        warnings += [said] * bool(said)
    if host not in LOOPBACK:
        warnings.append(NOT_ENCRYPTED)

    def announce(address: str) -> None:
        click.echo(address)
        for sentence in warnings:
            click.echo(f"note: {sentence}", err=True)

    serve(book, host, port, token, announce, names=names, debug=options.debug)
