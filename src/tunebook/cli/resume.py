"""`tunebook resume`."""

from __future__ import annotations

import click


@click.command("resume")
@click.argument("run")
@click.option("--json", "as_json", is_flag=True, help="Print the run's summary as JSON.")
def command(run: str, as_json: bool) -> None:
    """Go on with an interrupted run from its newest good checkpoint."""
    from tunebook.cli.live import make_view
    from tunebook.cli.result import print_result
    from tunebook.workflows.resume import resume

    with make_view() as view:
        summary = resume(run, watch=view)
    print_result(summary, as_json)
