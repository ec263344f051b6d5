"""`tunebook new`."""

from __future__ import annotations

import click


@click.command("new")
@click.argument("name")
@click.argument("overrides", nargs=-1, metavar="[key=value]...")
@click.option("--from", "parent", metavar="RUN|FILE", help="What the new run changes.")
def command(name: str, overrides: tuple[str, ...], parent: str | None) -> None:
    """Write runs/NAME/run.yaml for a new run.

    key=value states a value of the run file, as in train.learning_rate=1e-4.
    """
    from tunebook.book.places import find_book
    from tunebook.workflows.new import new_run

    run = new_run(find_book(), name, overrides, parent)
    click.echo(str(run.run_yaml))
    click.echo(f"next: edit it, then `tunebook train {name}`", err=True)
