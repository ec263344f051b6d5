"""What the verbs of `tunebook data` share: how to name a source, and how to watch it being made."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import click

from tunebook.recipe.tree import DocumentUnit, FormatName, TemplateName
from tunebook.terminal import console

if TYPE_CHECKING:
    from tunebook.data.build import Progress, Workers

Command = TypeVar("Command", bound=Callable[..., Any])


def source_options(function: Command) -> Command:
    """Add the options that say what a data file is."""
    for option in reversed(
        (
            click.option(
                "--format", "data_format", type=click.Choice(get_args(FormatName)), default="auto"
            ),
            click.option("--document", type=click.Choice(get_args(DocumentUnit)), default="auto"),
            click.option(
                "--column",
                "columns",
                multiple=True,
                metavar="NAME=OWN",
                callback=_pairs,
                help="The name tunebook needs, then the file's own, as prompt=question.",
            ),
            click.option(
                "--role",
                "roles",
                multiple=True,
                metavar="SPEAKER=ROLE",
                callback=_pairs,
                help="As Bob=assistant.",
            ),
        )
    ):
        function = option(function)
    return function


def token_options(function: Command) -> Command:
    """Add the options that say how a data file becomes tokens."""
    for option in reversed(
        (
            click.option(
                "--model", default="tunebook/tiny", show_default=True, help="Whose tokenizer."
            ),
            click.option("--template", type=click.Choice(get_args(TemplateName)), default="auto"),
            click.option(
                "--stage",
                type=click.Choice(("cpt", "sft")),
                help="Default: cpt for text, else sft.",
            ),
        )
    ):
        function = option(function)
    return function


def worker_options(function: Command) -> Command:
    """Add the options that say who tokenizes."""
    for option in reversed(
        (
            click.option(
                "--workers",
                "n_workers",
                type=click.IntRange(min=1),
                help="Processes that tokenize; by default one per core.",
            ),
            click.option(
                "--on",
                metavar="ADDRESS",
                help="A Ray cluster instead, as ray://host:10001, auto or local.",
            ),
        )
    ):
        function = option(function)
    return function


def workers_of(n_workers: int | None, on: str | None) -> Workers:
    """Put the worker options together; a usage error when both are given."""
    from tunebook.data.build import Workers

    if n_workers is not None and on is not None:
        raise click.UsageError("give either --workers or --on, not both")
    return Workers(n_workers, on)


def _pairs(
    _context: click.Context, _param: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    found = {}
    for value in values:
        name, equals, own = value.partition("=")
        if not (name and equals and own):
            raise click.BadParameter(f"{value!r} is not NAME=OWN, such as prompt=question")
        found[name] = own
    return found


@contextmanager
def shown_progress() -> Iterator[Callable[[Progress], None]]:
    """Show how far sources are: a bar on a terminal, else a line now and then, on stderr."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console(stderr=True),
        transient=True,
    ) as bars:
        tasks: dict[str, Any] = {}

        def show(progress: Any) -> None:
            if progress.source not in tasks:
                tasks[progress.source] = bars.add_task(progress.source, total=None)
            bars.update(
                tasks[progress.source], completed=progress.done_bytes, total=progress.total_bytes
            )

        yield show


class _Lines:
    """Prints a line for every ten seconds that pass."""

    def __init__(self) -> None:
        self._last = 0.0

    def __call__(self, progress: Progress) -> None:
        from tunebook.data.build import describe_progress

        if progress.seconds - self._last >= 10:
            self._last = progress.seconds
            click.echo(describe_progress(progress), err=True)
