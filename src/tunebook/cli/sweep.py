"""`tunebook sweep`."""

from __future__ import annotations

import click


@click.command("sweep")
@click.argument("sweep_file", metavar="SWEEP.yaml")
@click.option(
    "--trials", type=click.IntRange(min=1), metavar="N", help="Until there are so many runs of it."
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="Trials at once; by default as many as planned memory and cores have room for.",
)
@click.option(
    "--on", metavar="ADDRESS", help="A Ray cluster, as ray://HOST:10001 or auto (extra ray)."
)
@click.option("--plan", "plan_alone", is_flag=True, help="Say what it would take, and stop there.")
@click.option("--json", "as_json", is_flag=True, help="Print the result, or the plan, as JSON.")
def command(
    sweep_file: str,
    trials: int | None,
    workers: int | None,
    on: str | None,
    plan_alone: bool,
    as_json: bool,
) -> int:
    """Train a run file over combinations of its settings, and say which differ.

    Each trial is an ordinary run of the book. A sweep that was broken off goes on when it is called
    again, and one that has ended prints its table.
    """

    def say(text: str) -> None:
        click.echo(text, err=True)

    if plan_alone:
        from tunebook.workflows.sweep import plan_only

        planned = plan_only(sweep_file, trials=trials, say=say)
        if as_json:
            from tunebook.book.codec import dump_json

            click.echo(dump_json(planned.as_json(workers), indent=True).decode(), nl=False)
        else:
            click.echo("\n".join(planned.words(workers)))
        return 0
    from tunebook.workflows.sweep import sweep

    result = sweep(sweep_file, trials=trials, workers=workers, on=on, say=say)
    if as_json:
        from tunebook.book.codec import dump_json

        click.echo(dump_json(result, indent=True).decode(), nl=False)
        return 1 if result.failed else 0
    from tunebook.pages.sweep_table import sweep_text

    click.echo(sweep_text(result), nl=False)
    click.echo(f"table: sweeps/{result.name}/result.md")
    if result.best is not None:
        click.echo(f"best: `tunebook train sweeps/{result.name}/best.yaml`")
    return 1 if result.failed else 0
