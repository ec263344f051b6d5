"""`tunebook release`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("release")
@click.argument("run")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--adapter", is_flag=True, help="An adapter stays one (the default).")
@click.option("--merged", is_flag=True, help="Merge an adapter into its base.")
@click.option(
    "--from",
    "weights",
    default="final",
    metavar="WEIGHTS",
    help="final (the default), best, step-N.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the release as JSON.")
def command(run: str, out: Path, adapter: bool, merged: bool, weights: str, as_json: bool) -> None:
    """Write a run's weights into a new folder, verified against the trained model.

    The folder has the layout of the Hugging Face Hub, with a model card. It is loaded in a fresh
    process and must give the trained model's log-probabilities, or nothing is left of it.
    """
    if adapter and merged:
        raise click.UsageError("--adapter and --merged are two releases; ask for one of them")
    from tunebook.book.places import find_book
    from tunebook.workflows.release import release

    form = "adapter" if adapter else "merged" if merged else None

    def say(text: str) -> None:
        click.echo(text, err=True)

    made = release(run, out, find_book(), form=form, weights=weights, say=say)
    if as_json:
        from tunebook.book.codec import dump_json

        click.echo(dump_json(made, indent=True).decode(), nl=False)
        return
    from tunebook.pages.model_card import verification_words

    click.echo(f"{made.weights} of run {made.run}, step {made.step}: {made.form}, {made.precision}")
    click.echo(f"verified: {verification_words(made.verification)}")
    click.echo(f"released: {out}")
