"""`tunebook resume`."""

from __future__ import annotations

import click


@click.command("resume")
@click.argument("run")
@click.argument("overrides", nargs=-1, metavar="[key=value]...")
@click.option(
    "--fork", metavar="NEW", help="Go on as a new run of this name, with what changed since."
)
@click.option("--json", "as_json", is_flag=True, help="Print the run's summary as JSON.")
def command(run: str, overrides: tuple[str, ...], fork: str | None, as_json: bool) -> None:
    """Go on with an interrupted run from its newest good checkpoint.

    What changed since it began (a setting, data, a library, the weights it started from) is listed
    and refused. With --fork a new run goes on with it, and with key=value.
    """
    from tunebook.cli.live import make_view
    from tunebook.cli.result import print_result
    from tunebook.workflows.resume import resume

    with make_view() as view:
        summary = resume(run, overrides, fork=fork, watch=view)
    print_result(summary, as_json)
