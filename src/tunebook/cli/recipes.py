"""`tunebook recipes`."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.group("recipes", invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """List the recipes: five notebooks of other people, as they would have gone with tunebook.

    Each has a twin, which runs offline in minutes on data that the package carries, and full run
    files with the notebook's own model and hardware, for `tunebook plan`.
    """
    if context.invoked_subcommand is not None:
        return
    from tunebook.workflows.recipes import list_recipes

    found = list_recipes()
    if as_json:
        click.echo(json.dumps([{"name": one.name, **one.file.model_dump()} for one in found]))
        return
    width = max(len(one.name) for one in found)
    for one in found:
        click.echo(f"{one.name:{width}}  {one.file.title} (twin: {one.file.minutes:g} min)")
    click.echo("`tunebook recipes run NAME` runs a twin, `tunebook recipes show NAME` its steps")


@command.command("run")
@click.argument("name")
@click.option(
    "--book", "folder", type=click.Path(path_type=Path), help="Where; by default NAME-book here."
)
@click.option("--fresh", is_flag=True, help="Begin a new book beside the one that is there.")
def run(name: str, folder: Path | None, fresh: bool) -> None:
    """Run a recipe's twin from nothing to its report, and go on with one that was broken off."""
    from tunebook.workflows.recipes import run_recipe

    report = run_recipe(name, folder, say=lambda text: click.echo(text, err=True), fresh=fresh)
    click.echo(str(report))


@command.command("show")
@click.argument("name")
def show(name: str) -> None:
    """Show a recipe's steps, and where its files are."""
    from tunebook.workflows.recipes import find_recipe

    found = find_recipe(name)
    click.echo(f"{found.file.title}\n{found.file.notebook}\n")
    for step in found.file.steps:
        click.echo(f"tunebook {step.run}")
    click.echo(f"\nfiles: {found.folder / 'twin'}")
    for path in found.full:
        click.echo(f"full:  {path}")
