"""`tunebook runs`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from tunebook.terminal import console

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from tunebook.workflows.runs import RunTable

_NEEDED = (
    "name", "val_loss", "verdicts", "state", "method", "train_loss", "outcome", "model", "started",
    "seconds", "perplexity",
)  # fmt: skip
"""The columns shown by default, from what is needed most to what a narrow window leaves out."""
_FOLDED = frozenset(("verdicts", "outcome"))


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
    "--group",
    multiple=True,
    metavar="KEY",
    help="Put runs that share a column together, with their mean and spread; of several, all.",
)
@click.option(
    "--baseline",
    metavar="RUN",
    help="Show what each run differs by from this one; `tunebook compare` says what is shown.",
)
@click.option(
    "--format", "form", type=click.Choice(["table", "md", "csv", "json"]), default="table"
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
def command(
    filters: tuple[str, ...],
    columns: str | None,
    sort: str | None,
    group: tuple[str, ...],
    baseline: str | None,
    form: str,
    as_json: bool,
) -> None:
    """List the runs of the book as a table, Markdown, CSV or JSON.

    CSV and JSON hold one run a line, in the order of the groups: means and differences are only in
    the table and in Markdown.
    """
    from tunebook.book.places import find_book
    from tunebook.workflows.runs import Query, list_runs, write_runs

    chosen = tuple(column.strip() for column in (columns or "").split(",") if column.strip())
    book = find_book()
    query = Query(filters, chosen, sort, group, baseline)
    table = list_runs(book, query, lambda text: click.echo(text, err=True))
    judges = {row.judge_settings for row in table.rows if row.judge is not None}
    if len(judges) > 1 and "judge" in table.columns:
        click.echo(
            "note: the judge column holds scores of several judges, prompts or sets of questions, "
            "which do not compare; `tunebook compare RUN RUN --by judge` says which do",
            err=True,
        )
    form = "json" if as_json else form
    if form == "table" and not table.rows:
        click.echo(_nothing(len(table.book)), err=True)
    elif form == "table" and sys.stdout.isatty():
        _print_rich(table, fixed=bool(chosen))
    else:
        click.echo(write_runs(table, form), nl=False)


def _nothing(runs: int) -> str:
    if not runs:
        return "no run here; `tunebook new NAME` starts one"
    return f"none of the {runs} runs matches the filters; `tunebook runs` lists all"


def _print_rich(table: RunTable, fixed: bool) -> None:
    screen = console()
    columns = table.columns if fixed else _fitting(table, screen.width)
    screen.print(_grid(table, columns))
    if left := [name for name in table.columns if name not in columns]:
        click.echo(
            f"not shown: {', '.join(left)}; a wider window or `--columns` has room",
            err=True,
        )


def _fitting(table: RunTable, width: int) -> tuple[str, ...]:
    """Keep the columns that are needed most and fit whole; words of verdicts may be folded."""
    from tunebook.pages.groups import group_heads, text_against

    text, heads = text_against(table.baseline), group_heads(table.groups, table.columns)
    rows = [[text(one, name) for name in table.columns] for one in table.rows]
    rows += [list(table.columns), *([str(cell) for cell in head] for head in heads.values())]
    needed = {
        name: max(len(word) for cell in cells for word in _pieces(name, cell))
        for name, *cells in zip(table.columns, *rows, strict=True)
    }
    kept: set[str] = set()
    for name in sorted(table.columns, key=_rank):
        if not kept or sum(needed[one] + 2 for one in kept) + needed[name] <= width:
            kept.add(name)
    return tuple(name for name in table.columns if name in kept)


def _rank(name: str) -> int:
    # What somebody asked to see by a filter or a sort comes before what is always shown.
    return _NEEDED.index(name) if name in _NEEDED else -1


def _pieces(name: str, cell: str) -> list[str]:
    return cell.split() or [""] if name in _FOLDED else [cell]


def _grid(table: RunTable, columns: Sequence[str]) -> Table:
    from rich.table import Table
    from rich.text import Text

    from tunebook.pages.groups import difference, group_heads, is_better, text_against
    from tunebook.pages.table import NUMBERS, changed_columns

    grid = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        grid.add_column(column, justify="right" if column in NUMBERS else "left")
    text, heads = text_against(table.baseline), group_heads(table.groups, columns)
    colours = {True: "green", False: "red", None: ""}
    for summary in table.rows:
        if summary.name in heads:
            grid.add_row(*map(Text, heads[summary.name]), style="bold")
        changed = changed_columns(summary, columns, table.book)
        cells = []
        for column in columns:
            change = difference(summary, column, table.baseline)
            style = "bold" if column in changed else ""
            if change is not None and table.baseline is not None:
                style = colours[is_better(column, summary, table.baseline)]
            cells.append(Text(text(summary, column), style=style))
        grid.add_row(*cells)
    return grid
