"""`tunebook watch`."""

from __future__ import annotations

import click


@click.command("watch")
@click.argument("run")
def command(run: str) -> None:
    """Follow a run that is training, live."""
    from tunebook.cli.live import make_view
    from tunebook.cli.result import print_result
    from tunebook.workflows.watch import watch_run

    with make_view() as view:
        summary = watch_run(run, view)
    print_result(summary, as_json=False)
