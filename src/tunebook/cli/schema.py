"""`tunebook schema`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("schema")
@click.option("--write", is_flag=True, help="Write it into this book's .tunebook folder instead.")
def command(write: bool) -> None:
    """Print the JSON Schema of the run file.

    With --write it goes to .tunebook/run.schema.json of the book you are in, where the first line
    of a run file points: # yaml-language-server: $schema=.tunebook/run.schema.json
    """
    if write:
        from tunebook.workflows.schema import write_schema

        click.echo(f"written to {write_schema(Path.cwd())}", err=True)
        return
    from tunebook.recipe.schema import schema_text

    click.echo(schema_text(), nl=False)
