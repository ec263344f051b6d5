"""`tunebook import`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tunebook.units import format_number

if TYPE_CHECKING:
    from tunebook.workflows.import_runs import Imported


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", help="Name of the run; stands before the names of several.")
@click.option(
    "--book",
    "folder",
    type=click.Path(path_type=Path),
    help="The book to import into, made if it is not there; default: the one here or above.",
)
@click.option(
    "--column",
    "columns",
    multiple=True,
    metavar="FIELD=COLUMN",
    help="Read a field from this column, as in loss=train/loss.",
)
def command(file: Path, name: str | None, folder: Path | None, columns: tuple[str, ...]) -> None:
    """Read somebody else's runs into the book: logs, event files, tables of a notebook.

    FILE is a trainer_state.json, a trainer_log.jsonl of LLaMA-Factory, event files of TensorBoard,
    CSV, the history of a W&B run as JSON lines, a Trackio project's database, or a text with
    Markdown tables of runs.
    """
    from tunebook.book.places import find_book
    from tunebook.errors import UsageError
    from tunebook.workflows.import_runs import import_runs

    chosen = {}
    for text in columns:
        field, equals, column = text.partition("=")
        if not equals or not column:
            raise UsageError(f"--column {text} names no column; write it like loss=train/loss")
        chosen[field] = column
    book = find_book() if folder is None else folder
    imported = import_runs(file, book, name=name, columns=chosen)
    for note in imported.found.notes:
        click.echo(f"note: {note}", err=True)
    for left in imported.found.not_read:
        click.echo(f"not read: {left}", err=True)
    click.echo("\n".join(_lines(file, imported)))


def _lines(file: Path, imported: Imported) -> list[str]:
    found, runs = imported.found, imported.runs
    lines = [
        f"{len(runs)} run{'s' * (len(runs) != 1)} imported from {file.name} ({found.format}, "
        f"sha256 {imported.sha256[:12]})",
        f"columns: {', '.join(f'{key} from {column}' for key, column in found.columns.items())}",
    ]
    width = max(len(run.name) for run in runs)
    for run in runs:
        numbers = ", ".join(
            f"{key} {format_number(value)}"
            for key in ("train_loss", "val_loss", "judge")
            if isinstance(value := getattr(run, key), float)
        )
        lines.append(f"{run.name.ljust(width)}  {numbers or 'no result is given'}")
        lines += [f"{'':{width}}  {v.kind}: {v.cause}" for v in imported.verdicts[run.name]]
    return lines
