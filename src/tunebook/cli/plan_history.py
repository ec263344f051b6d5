"""`tunebook plan --history`: how far the plans of a book's runs were off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click

from tunebook.book.codec import dump_json
from tunebook.book.places import find_book, list_runs, open_run
from tunebook.book.plans import Errors, PlannedRun, planned_runs, sum_up_errors
from tunebook.pages.run_plan import FIGURES, error_text, figure_text
from tunebook.units import format_error, format_percent


def print_history(name: str | None, as_json: bool) -> None:
    """Print planned against measured for a run, or every finished run of the book with a plan."""
    book = find_book()
    runs = list(planned_runs([open_run(book, name)] if name else list_runs(book)))
    errors = sum_up_errors(runs)
    if as_json:
        click.echo(dump_json(_as_json(runs, errors), indent=True).decode(), nl=False)
    elif not runs:
        which = f"run {name} has no" if name else "no run here has a"
        click.echo(f"{which} plan and an end to hold it against", err=True)
    else:
        click.echo("\n".join(history_lines(runs, errors)))


def history_lines(runs: Sequence[PlannedRun], errors: Mapping[str, Errors]) -> list[str]:
    """Write one table by figure, and under it how far the plans were off."""
    lines: list[str] = []
    for figure, word in FIGURES.items():
        if figure not in errors:
            continue
        rows: list[tuple[str, ...]] = [(word, "planned", "measured", "error")]
        rows += [_row(run, figure) for run in runs if run.figures[figure].error is not None]
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        for row in rows:
            numbers = (c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))
            lines.append("  ".join((row[0].ljust(widths[0]), *numbers)))
        off = errors[figure]
        lines += [
            f"median error {format_percent(off.median)} of {off.n_runs} "
            f"run{'s' * (off.n_runs > 1)}",
            f"worst error {format_error(off.worst)} in {off.worst_run}",
            "",
        ]
    return [*lines, "below 0 %: the run needed more than was planned"]


def _row(run: PlannedRun, figure: str) -> tuple[str, ...]:
    found = run.figures[figure]
    shown = (figure_text(figure, n) for n in (found.planned, found.measured))
    return (run.name, *shown, error_text(found))


def _as_json(runs: Sequence[PlannedRun], errors: Mapping[str, Errors]) -> dict[str, object]:
    return {
        "runs": [
            {
                "name": run.name,
                "model": run.model,
                "method": run.method,
                "device": run.device,
                **{
                    figure: {"planned": c.planned, "measured": c.measured, "error": c.error}
                    for figure, c in run.figures.items()
                },
            }
            for run in runs
        ],
        "errors": {
            figure: {
                "n": off.n_runs,
                "median": off.median,
                "worst": off.worst,
                "run": off.worst_run,
            }
            for figure, off in errors.items()
        },
    }
