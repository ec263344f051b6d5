"""`tunebook replay`."""

from __future__ import annotations

import click


@click.command("replay")
@click.argument("run")
@click.option("--step", type=click.IntRange(1), help="Of the spike; by default the newest found.")
@click.option(
    "--steps-after",
    default=10,
    show_default=True,
    type=click.IntRange(1),
    help="Steps beyond it that tell whether the weights were hurt.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the replay as JSON.")
def command(run: str, step: int | None, steps_after: int, as_json: bool) -> None:
    """Find the cause of a spike by experiment.

    From the nearest whole checkpoint the steps around it are taken again in memory: as they were,
    then with other rows, a lower learning rate, other clipping, another seed. The single change
    that removes the spike is its cause. The run itself is not touched.
    """
    from tunebook.book.places import find_book
    from tunebook.workflows.replay import replay

    found = replay(
        run,
        find_book(),
        step=step,
        steps_after=steps_after,
        say=lambda text: click.echo(text, err=True),
    )
    if as_json:
        from tunebook.book.codec import dump_json

        click.echo(dump_json(found, indent=True).decode(), nl=False)
        return
    from tunebook.pages.replays import replay_lines

    for line in replay_lines(found):
        click.echo(line)
