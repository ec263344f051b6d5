"""How a run ended, in two lines or as JSON."""

from __future__ import annotations

import click

from tunebook.records import RunSummary
from tunebook.units import format_number, format_seconds


def print_result(summary: RunSummary, as_json: bool) -> None:
    """Print a run's summary on standard output."""
    if as_json:
        from tunebook.pages.table import summary_json

        click.echo(summary_json(summary))
        return
    figures = [f"run {summary.name} {summary.state}"]
    if summary.val_loss is not None:
        figures.append(f"val_loss {format_number(summary.val_loss)}")
        figures.append(f"perplexity {format_number(summary.perplexity)}")
    if summary.base_val_loss is not None:
        figures.append(f"base_val_loss {format_number(summary.base_val_loss)}")
    if summary.outcome:
        figures.append(f"predictions: {summary.outcome}")
    if summary.seconds is not None:
        figures.append(format_seconds(summary.seconds))
    click.echo("  ".join(figures))
    click.echo(f"page: runs/{summary.name}/notebook.md")
