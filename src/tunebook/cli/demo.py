"""`tunebook demo`."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

import click


@click.command("demo")
@click.option(
    "--book",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("demo-book"),
    show_default=True,
    help="The book to make or use.",
)
def command(book: Path) -> None:
    """Train the embedded model on embedded data, and show what came of it."""
    from tunebook.cli.live import make_view
    from tunebook.cli.result import print_result
    from tunebook.workflows.demo import demo

    with make_view() as view:
        made = demo(book.resolve(), view)
    click.echo()
    for before, after in zip(made.before, made.after, strict=True):
        click.echo(f"prompt  {before.prompt}")
        click.echo(f"before  {_one_line(before.text)}")
        click.echo(f"after   {_one_line(after.text)}")
        click.echo()
    for outcome in made.outcomes:
        word = {True: "held", False: "did not hold", None: "unknown"}[outcome.held]
        click.echo(f"prediction  {outcome.text}: {word} ({outcome.measured or outcome.reason})")
    click.echo()
    print_result(made.summary, as_json=False)
    click.echo(f"the page of this run: {made.page}")
    click.echo(f"in the browser: cd {shlex.quote(str(made.book))} && {_program()} ui", err=True)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _program() -> str:
    """Say how tunebook is called here: one in a virtual environment need not be on the path."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m tunebook"
    return called.name if shutil.which(called.name) else shlex.quote(str(called.resolve()))
