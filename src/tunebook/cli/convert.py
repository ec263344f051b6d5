"""`tunebook convert`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("convert")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Write the run file here.")
@click.option("--from", "tool", type=click.Choice(["axolotl", "trl"]), help="Whose file it is.")
@click.option("--name", help="Name of the run; by default that of the file.")
@click.option(
    "--devices", type=click.IntRange(min=1), default=1, metavar="N", help="How many it ran on."
)
@click.option("--without", multiple=True, metavar="KEY", help="Give a key up; may be repeated.")
def command(
    file: Path,
    out: Path | None,
    tool: str | None,
    name: str | None,
    devices: int,
    without: tuple[str, ...],
) -> None:
    """Make a run file of one of axolotl's or of `trl sft`.

    What was understood is said, and what was left out because it changes nothing here. A key that
    cannot be translated is refused.
    """
    from tunebook.workflows.convert import convert

    made = convert(file, tool=tool, name=name, devices=devices, without=without, out=out)
    for key, ours in made.understood.items():
        click.echo(f"understood: {key} -> {ours}", err=True)
    for key, why in made.left_out.items():
        click.echo(f"left out: {key} ({why})", err=True)
    for note in made.notes:
        click.echo(f"note: {note}", err=True)
    if out is None:
        click.echo(made.text, nl=False)
    else:
        click.echo(f"written to {out}; `tunebook plan {out}` shows what it needs", err=True)
