"""`tunebook runs`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from tunebook.workflows.runs import RunTable


@click.command("runs")
@click.option(
    "--filter",
    "filters",
    multiple=True,
    metavar="'KEY=VALUE'",
    help="Keep runs such as 'method=lora' or 'val_loss<2'; several must all hold.",
)
@click.option("--columns", metavar="A,B,...", help="Fields or settings, as name,lora.rank.")
@click.option("--sort", metavar="KEY", help="Sort by a column; -KEY for the largest first.")
@click.option(
    "--format", "form", type=click.Choice(["table", "md", "csv", "json"]), default="table"
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
def command(
    filters: tuple[str, ...], columns: str | None, sort: str | None, form: str, as_json: bool
) -> None:
    """List the runs of the book as a table, Markdown, CSV or JSON."""
    from tunebook.book.places import find_book
    from tunebook.workflows.runs import list_runs

    chosen = [column.strip() for column in (columns or "").split(",") if column.strip()]
    table = list_runs(find_book(), filters, chosen, sort)
    judges = {row.judge_settings for row in table.rows if row.judge is not None}
    if len(judges) > 1 and "judge" in table.columns:
        click.echo(
            "note: the judge column holds scores of several judges, prompts or sets of questions, "
            "which do not compare; `tunebook compare RUN RUN --by judge` says which do",
            err=True,
        )
    form = "json" if as_json else form
    if form == "table" and not table.rows:
        click.echo("no run here; `tunebook new NAME` starts one", err=True)
    elif form == "table" and sys.stdout.isatty():
        _print_rich(table)
    else:
        click.echo(_render(table, form, chosen), nl=False)


def _render(table: RunTable, form: str, chosen: list[str]) -> str:
    from tunebook.pages import table as pages

    if form == "json":
        return pages.json_table(table.rows, chosen)
    if form == "csv":
        return pages.csv_table(table.rows, table.columns)
    if form == "md":
        return pages.markdown_table(table.rows, table.columns, table.book)
    return pages.plain_table(table.rows, table.columns)


def _print_rich(table: RunTable) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from tunebook.pages.table import NUMBERS, changed_columns, shown_text

    grid = Table(box=None, pad_edge=False, header_style="dim")
    for column in table.columns:
        grid.add_column(column, justify="right" if column in NUMBERS else "left")
    for summary in table.rows:
        changed = changed_columns(summary, table.columns, table.book)
        grid.add_row(
            *(
                Text(
                    shown_text(summary, column),
                    style="bold" if column in changed else "",
                )
                for column in table.columns
            )
        )
    Console().print(grid)
