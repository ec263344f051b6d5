"""`tunebook data score`: the loss of every row under a model, to keep a band of it."""

from __future__ import annotations

import dataclasses
import json
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from tunebook.cli.data.options import source_options
from tunebook.recipe.tree import TemplateName
from tunebook.terminal import console
from tunebook.units import format_count, format_number, format_percent, format_seconds

if TYPE_CHECKING:
    from tunebook.workflows.data_score import Scored

_BAR = 40
_SAY_AFTER_SECONDS = 10.0
_SAY_AT_LEAST_EVERY_SECONDS = 600.0


@click.command("score")
@click.argument("path")
@click.option("--model", default="tunebook/tiny", show_default=True, help="Whose loss.")
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where scores go, a line per row; what is there is gone on with.",
)
@click.option(
    "--max-tokens",
    type=click.IntRange(2),
    default=512,
    show_default=True,
    help="Longest chunk; a longer row is scored by chunks.",
)
@click.option(
    "--chunks",
    "n_chunks",
    type=click.IntRange(1),
    default=16,
    show_default=True,
    help="Chunks drawn of a long row.",
)
@click.option(
    "--keep",
    nargs=2,
    type=float,
    default=(1.5, 2.5),
    show_default=True,
    metavar="LOW HIGH",
    help="The band whose rows are counted; filter loss_band keeps them.",
)
@click.option("--stage", type=click.Choice(("cpt", "sft")), help="Default: cpt for text, else sft.")
@click.option("--template", type=click.Choice(get_args(TemplateName)), default="auto")
@source_options
@click.option("--device", type=click.Choice(("auto", "cpu", "cuda", "mps")), default="auto")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    path: str,
    model: str,
    out: Path,
    max_tokens: int,
    n_chunks: int,
    keep: tuple[float, float],
    stage: str | None,
    template: str,
    data_format: str,
    document: str,
    columns: dict[str, str],
    roles: dict[str, str],
    device: str,
    as_json: bool,
) -> None:
    """Write the loss of every row of PATH under a model, and show how losses lie."""
    from tunebook.workflows import data_score

    try:
        with _progress() as watch:
            found = data_score.score(
                path,
                model,
                out,
                max_tokens=max_tokens,
                n_chunks=n_chunks,
                keep=keep,
                stage=stage,
                template=template,
                data_format=data_format,
                columns=columns,
                document=document,
                roles=roles,
                device=device,
                watch=watch,
            )
    except KeyboardInterrupt:
        click.echo(f"stopped; the same command goes on from what is in {out}", err=True)
        raise
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(found), ensure_ascii=False, indent=2))
    else:
        stated = {"--format": data_format, "--document": document, "--stage": stage or "auto"}
        reading = [word for pair in stated.items() if pair[1] != "auto" for word in pair]
        for option, pairs in (("--column", columns), ("--role", roles)):
            for name, own in pairs.items():
                reading += [option, f"{name}={own}"]
        _print(found, reading)


@contextmanager
def _progress() -> Iterator[Callable[[int, int, float], None]]:
    """Give what shows progress on standard error: a bar on a terminal, else a line at times."""
    if not sys.stderr.isatty():
        yield _lines()
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    with Progress(
        "scoring",
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console(stderr=True),
    ) as bar:
        task = bar.add_task("scoring", total=None)
        yield lambda done, rows, seconds: bar.update(task, completed=done, total=rows)


def _lines() -> Callable[[int, int, float], None]:
    """Say at once how many rows there are, then how far it is, less and less often."""
    start, wait, began = time.monotonic(), _SAY_AFTER_SECONDS, -1

    def watch(done: int, rows: int, seconds: float) -> None:
        nonlocal start, wait, began
        if began < 0:
            began = done
            before = f", {format_count(done)} of them before" if done else ""
            click.echo(f"scoring {format_count(rows)} rows{before}", err=True)
        if time.monotonic() - start < wait:
            return
        start, wait = time.monotonic(), min(2 * wait, _SAY_AT_LEAST_EVERY_SECONDS)
        fresh = done - began
        left = f", {format_seconds((rows - done) * seconds / fresh)} left" if fresh else ""
        click.echo(f"scored {format_count(done)} of {format_count(rows)} rows{left}", err=True)

    return watch


def _print(found: Scored, reading: Sequence[str]) -> None:
    click.echo(f"source     {found.source}")
    scored = f"{format_count(found.rows)} rows"
    if found.rows_before:
        scored += f", {format_count(found.rows_before)} of them before"
    click.echo(f"scores     {found.out}: {scored}, {format_seconds(found.seconds)}")
    click.echo(
        f"loss       mean {format_number(found.loss)} nats per target token under {found.model}, "
        f"{format_count(found.target_tokens)} tokens scored"
    )
    if found.percentiles:
        shown = "  ".join(f"{p} {format_number(v, 3)}" for p, v in found.percentiles.items())
        click.echo(f"           {shown}")
    most = max(found.histogram, default=1)
    band = found.band
    digits = len(format_count(most))
    for place, count in enumerate(found.histogram):
        low, high = found.edges[place], found.edges[place + 1]
        inside = band.low <= (low + high) / 2 <= band.high
        bar = ("█" if inside else "░") * round(_BAR * count / most)
        click.echo(f"  {low:6.2f} - {high:6.2f}  {format_count(count):>{digits}}  {bar}")
    share = format_percent(band.kept / found.rows)
    click.echo(
        f"keep       {format_count(band.kept)} rows ({share}) from {band.low:g} to {band.high:g}; "
        f"{format_count(band.below)} below, {format_count(band.above)} above"
        + (f", {format_count(band.unscored)} without a loss" if band.unscored else "")
    )
    low, high = found.proposed or (band.low, band.high)
    if found.proposed:
        click.echo(f"           {_say_proposed(found)}")
    if band.kept or found.proposed:
        scores = found.out.replace(",", "\\,")
        asked = f"loss_band:scores={scores},low={low:g},high={high:g}"
        words = ["tunebook", "data", "filter", found.source, *reading, "--filter", asked]
        click.echo(f"next       {shlex.join(words)}")


def _say_proposed(found: Scored) -> str:
    assert found.proposed is not None
    low, high = found.proposed
    fits = "it drops nothing" if found.band.kept else "it keeps nothing"
    if 0 < found.band.kept < found.rows - found.unscored:
        fits = "it keeps under 5 %"
    return (
        f"that band is none for this model: {fits}; the middle 90 % of these rows are from "
        f"{low:g} to {high:g}"
    )
