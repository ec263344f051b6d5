"""`tunebook show`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from tunebook.workflows.show import ShownRun


PLAIN_WIDTH = 96
"""Columns of a plot that no terminal shows."""


@click.command("show")
@click.argument("names", metavar="RUN...", nargs=-1, required=True)
@click.option("--settings", is_flag=True, help="List every value, and where it comes from.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.option("--plot", is_flag=True, help="Draw its curves in the terminal.")
@click.option(
    "--figure",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Draw its curves into a file, .svg, .png or .pdf; one of that name is replaced.",
)
@click.option(
    "--curves",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write every step of it as CSV; - prints it.",
)
def command(
    names: tuple[str, ...],
    settings: bool,
    as_json: bool,
    plot: bool,
    figure: Path | None,
    curves: Path | None,
) -> None:
    """Show one run: result, data, predictions, findings.

    --plot and --figure take several runs, and a figure lays them over each other.
    """
    from tunebook.book.places import find_book
    from tunebook.errors import UsageError

    if sum((settings, as_json, plot, figure is not None, curves is not None)) > 1:
        raise UsageError("--settings, --json, --plot, --figure and --curves are one at a time")
    book = find_book()
    if plot:
        _plot(book, names)
    elif figure is not None:
        from tunebook.workflows.figures import write_figure

        _tell(figure, write_figure(book, names, figure))
    elif len(names) > 1:
        raise UsageError(
            f"show one run at a time, not {len(names)}; `tunebook show {shlex.join(names)} --plot` "
            "draws several, `tunebook compare` compares them"
        )
    elif curves is not None:
        _write_curves(book, names[0], curves)
    else:
        _show(book, names[0], settings, as_json)


def _plot(book: Path, names: tuple[str, ...]) -> None:
    import shutil
    import sys

    from tunebook.pages.curve import draw_curves
    from tunebook.workflows.figures import read_curves

    width = max(shutil.get_terminal_size().columns, 40) if sys.stdout.isatty() else PLAIN_WIDTH
    runs = read_curves(book, names)
    click.echo("\n\n".join(draw_curves(run, width) for run in runs))


def _write_curves(book: Path, name: str, path: Path) -> None:
    from tunebook.book.places import open_run
    from tunebook.book.reader import RunReader
    from tunebook.pages.curves_csv import csv_lines
    from tunebook.workflows.figures import write_into

    lines = csv_lines(RunReader(open_run(book, name)).look())
    if str(path) == "-":
        for line in lines:
            click.echo(line, nl=False)
    else:
        _tell(path, write_into(path, (line.encode() for line in lines)))


def _tell(path: Path, n_bytes: int) -> None:
    from tunebook.units import format_bytes

    click.echo(str(path))
    click.echo(f"wrote {format_bytes(n_bytes)}", err=True)


def _show(book: Path, name: str, settings: bool, as_json: bool) -> None:
    from tunebook.workflows.show import show_run

    shown = show_run(book, name)
    if as_json:
        from tunebook.book.codec import dump_json

        click.echo(dump_json(_as_json(shown), indent=True).decode(), nl=False)
    else:
        lines = _settings(shown) if settings else _lines(shown)
        click.echo("\n".join(lines))


def _as_json(shown: ShownRun) -> dict[str, Any]:
    from tunebook.book.plans import compare_plan
    from tunebook.pages.table import JSON_KEYS

    row: dict[str, Any] = {key: getattr(shown.summary, key) for key in JSON_KEYS}
    return row | {
        "config": shown.summary.config,
        "inherited": shown.inherited,
        "lineage": shown.lineage,
        "predictions": shown.outcomes,
        "seal_intact": shown.seal_intact,
        "verdicts": shown.events.verdicts,
        "validations": shown.events.validations,
        "data": shown.sources,
        "plan": shown.plan,
        "plan_against_actual": {
            figure: {"planned": c.planned, "measured": c.measured, "error": c.error}
            for figure, c in compare_plan(shown.plan).items()
        },
        "speed": shown.speed,
        "facts": {k: v for k, v in shown.events.facts.items() if k != "first_batch"},
        "checkpoints": shown.checkpoints,
        "releases": shown.releases,
        "page": str(shown.run.notebook_md),
    }


def _lines(shown: ShownRun) -> list[str]:
    from tunebook.pages.run_setup import verified_in_short
    from tunebook.pages.speed import speed_line
    from tunebook.pages.table import JSON_KEYS, cell_text
    from tunebook.pages.verdicts import next_command, verdict_text

    summary = shown.summary
    lines = []
    for key in JSON_KEYS:
        text = cell_text(key, getattr(summary, key))
        if text and key not in ("examples_hash", "verdicts"):
            of = " in steps and validation" if key == "seconds" else ""
            lines.append(f"{key:<18} {text}{of}")
    lines += [f"{'lineage':<18} {text}" for text in shown.lineage]
    if shown.seal_intact is False:
        lines.append(f"{'seal':<18} broken: seal.json was changed after it was written")
    for outcome in shown.outcomes:
        word = {True: "held", False: "failed", None: "unknown"}[outcome.held]
        detail = "; ".join(text for text in (outcome.measured, outcome.reason) if text)
        lines.append(f"{'prediction':<18} {word}: {outcome.text}" + (f" ({detail})" * bool(detail)))
    for verdict in shown.events.verdicts:
        lines.append(f"{'verdict':<18} {verdict_text(verdict)}; {verdict.next_action}")
        if command := next_command(shown.run.name, verdict):
            lines.append(f"{'':<18} {command}")
    lines += [f"{'data':<18} {_source(source)}" for source in shown.sources]
    if speed := speed_line(shown.speed):
        lines.append(f"{'speed':<18} {speed}")
    lines += _plan(shown)
    if shown.checkpoints:
        steps = ", ".join(
            f"{step} (best)" if step == shown.best_step else str(step) for step in shown.checkpoints
        )
        lines.append(f"{'checkpoints':<18} {steps}")
    if shown.has_final:
        lines.append(f"{'weights':<18} {shown.run.final}")
    for each in shown.releases:
        lines.append(f"{'released':<18} {each.form} to {each.to} ({verified_in_short(each)})")
    lines.append(f"{'page':<18} {shown.run.notebook_md}")
    return lines


def _settings(shown: ShownRun) -> list[str]:
    from tunebook.pages.table import cell_text

    config = {k: v for k, v in shown.summary.config.items() if not k.startswith("notebook.")}
    rows = [(key, cell_text(key, value) or "–") for key, value in config.items()]
    widths = [max(len(row[i]) for row in rows) for i in range(2)]
    return [
        f"{key:<{widths[0]}}  {value:<{widths[1]}}  {shown.inherited.get(key, '')}".rstrip()
        for key, value in rows
    ]


def _plan(shown: ShownRun) -> list[str]:
    from tunebook.book.plans import compare_plan
    from tunebook.pages.run_plan import FIGURES, error_text, figure_text

    lines = []
    for figure, found in compare_plan(shown.plan).items():
        if found.planned is not None:
            planned, measured = (figure_text(figure, n) for n in (found.planned, found.measured))
            word = "measured " if found.measured is not None else ""
            error = f" ({error_text(found)})" if found.error is not None else ""
            lines.append(f"{'plan':<18} {FIGURES[figure]}: {planned}, {word}{measured}{error}")
    if accepted := shown.plan.get("accepted"):
        lines.append(f"{'accepted':<18} {', '.join(map(str, accepted))}")
    return lines


def _source(source: dict[str, Any]) -> str:
    dropped = source.get("dropped") or {}
    why = "".join(f", {n} {reason}" for reason, n in dropped.items())
    return (
        f"{source.get('name')}: {source.get('rows_in')} rows in, {sum(dropped.values())} dropped"
        f"{why}, {source.get('rows_out')} out, {source.get('target_tokens')} target tokens"
    )
