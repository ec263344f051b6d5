"""`tunebook convert`."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click

from tunebook.errors import UsageError

_ON_HUB = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
_RUN_FILE_ENDINGS = (".yaml", ".yml", ".json")


@click.command("convert")
@click.argument("file")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Write the run file here.")
@click.option("--from", "tool", type=click.Choice(["axolotl", "trl"]), help="Whose file it is.")
@click.option("--name", help="Name of the run; by default that of the file.")
@click.option(
    "--devices", type=click.IntRange(min=1), default=1, metavar="N", help="How many it ran on."
)
@click.option("--without", multiple=True, metavar="KEY", help="Give a key up; may be repeated.")
@click.option(
    "--without-isolation",
    is_flag=True,
    help="Of a model: read its weights although the process cannot be cut off from the network.",
)
def command(
    file: str,
    out: Path | None,
    tool: str | None,
    name: str | None,
    devices: int,
    without: tuple[str, ...],
    without_isolation: bool,
) -> None:
    """Make a run file of one of axolotl's or of `trl sft`, or safetensors of pickled weights.

    Of a run file, what was understood is said, and what was left out because it changes nothing
    here. A key that cannot be translated is refused.

    FILE may also be a model whose weights are pytorch_model.bin, in parts or whole, or another
    .bin, .pt, .pth or .ckpt file: its folder, or its name on the hub. `-o` is then a new folder,
    for the weights as safetensors with config, tokenizer, card and licence. A process of its own
    without network reads them, as tensors alone, and each is held against what was written.
    """
    _refuse_nothing(file)
    if _is_model(file):
        _convert_model(file, out, isolated=not without_isolation)
        return
    from tunebook.workflows.convert import convert

    made = convert(Path(file), tool=tool, name=name, devices=devices, without=without, out=out)
    for key, ours in made.understood.items():
        click.echo(f"understood: {key} -> {ours}", err=True)
    for key, why in made.left_out.items():
        click.echo(f"left out: {key} ({why})", err=True)
    for note in made.notes:
        click.echo(f"note: {note}", err=True)
    if out is None:
        click.echo(made.text, nl=False)
    else:
        click.echo(
            f"written to {out}; `tunebook plan {shlex.quote(str(out))}` shows what it needs",
            err=True,
        )


def _refuse_nothing(named: str) -> None:
    """Raise UsageError for a path that leads to no file or folder, and is no name on the hub."""
    from tunebook.recipe.home import expand_home
    from tunebook.regular import what_else

    path = expand_home(named)
    if (leads := what_else(path)) is not None:
        raise UsageError(f"{named} is {leads}; name a run file, or the folder of a model")
    if not path.exists() and (named.startswith(".") or not _ON_HUB.fullmatch(named)):
        raise UsageError(
            f"there is nothing at {named}, neither a run file nor the folder of a model; look at "
            f"the path, it counts from the folder {Path.cwd()}"
        )


def _is_model(named: str) -> bool:
    """Tell a folder, or a name on the hub, from a run file that is there or was mistyped."""
    from tunebook.recipe.home import expand_home

    path = expand_home(named)
    if path.exists():
        return path.is_dir()
    return _ON_HUB.fullmatch(named) is not None and not named.endswith(_RUN_FILE_ENDINGS)


def _convert_model(model: str, out: Path | None, *, isolated: bool) -> None:
    if out is None:
        raise UsageError(f"{model} is a model; name a new folder for its weights with -o")
    from tunebook.units import format_bytes
    from tunebook.workflows.convert_weights import convert_weights

    made = convert_weights(
        model, out, isolated=isolated, say=lambda words: click.echo(words, err=True)
    )
    found = made.converted
    for name, of in found.tied.items():
        click.echo(f"tied: {name} is {of}, and is written once", err=True)
    if found.left_out:
        click.echo(f"left out: {', '.join(found.left_out[:8])}, no tensors", err=True)
    for note in made.notes:
        click.echo(f"note: {note}", err=True)
    network = "without network" if found.no_network else "with the network in reach"
    click.echo(
        f"{found.n_tensors} tensors, {format_bytes(found.n_bytes)}, read {network} and written to "
        f"{out}, each the same in every byte; a run file says `model: {out}`",
        err=True,
    )
