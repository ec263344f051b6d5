"""`tunebook diff`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from tunebook.workflows.diff import RunDiff


@click.command("diff")
@click.argument("left", metavar="RUN")
@click.argument("right", metavar="RUN")
@click.option("--json", "as_json", is_flag=True, help="Print the differences as JSON.")
def command(left: str, right: str, as_json: bool) -> None:
    """Show what differs between two runs."""
    from tunebook.book.places import find_book
    from tunebook.workflows.diff import diff_runs

    found = diff_runs(find_book(), left, right)
    if as_json:
        from tunebook.book.codec import dump_json

        whole = {
            "runs": [left, right],
            "settings": {d.key: [d.left, d.right] for d in found.settings},
            "results": {d.key: [d.left, d.right] for d in found.results},
            "same_examples": found.same_examples,
            "data": found.data,
        }
        click.echo(dump_json(whole, indent=True).decode(), nl=False)
    else:
        click.echo("\n".join(_lines(found)))


def _lines(found: RunDiff) -> list[str]:
    from tunebook.pages.table import cell_text

    rows = [("", found.left.name, found.right.name)]
    for difference in (*found.settings, *found.results):
        left, right = (cell_text(difference.key, v) for v in (difference.left, difference.right))
        rows.append((difference.key, left or "–", right or "–"))
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    lines = [
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    if not found.settings:
        lines.append("no setting differs")
    lines += found.data
    if found.same_examples is False:
        lines.append("validated on different examples: the held-out losses do not compare")
    return lines
