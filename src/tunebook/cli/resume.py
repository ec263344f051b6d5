"""`tunebook resume`."""

from __future__ import annotations

import click

from tunebook.cli.hosts import host_options


@click.command("resume")
@click.argument("run")
@click.argument("overrides", nargs=-1, metavar="[key=value]...")
@click.option(
    "--fork", metavar="NEW", help="Go on as a new run of this name, with what changed since."
)
@host_options
@click.option("--json", "as_json", is_flag=True, help="Print the run's summary as JSON.")
def command(
    run: str,
    overrides: tuple[str, ...],
    fork: str | None,
    nnodes: int | None,
    node_rank: int,
    rdzv_endpoint: str | None,
    as_json: bool,
) -> None:
    """Go on with an interrupted run from its newest good checkpoint.

    What changed since it began (a setting, data, a library, the weights it started from) is listed
    and refused. With --fork a new run goes on with it, and with key=value.
    """
    from tunebook.cli.live import make_view
    from tunebook.cli.result import print_result
    from tunebook.workflows.hosts import make_hosts
    from tunebook.workflows.resume import resume

    hosts = make_hosts(nnodes, node_rank, rdzv_endpoint)
    with make_view() as view:
        summary = resume(run, overrides, fork=fork, watch=view, hosts=hosts)
    print_result(summary, as_json)
