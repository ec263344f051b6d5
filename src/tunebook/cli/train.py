"""`tunebook train`."""

from __future__ import annotations

import click

from tunebook.cli.hosts import host_options


@click.command("train")
@click.argument("run_file", metavar="RUN.yaml|RUN")
@click.argument("overrides", nargs=-1, metavar="[key=value]...")
@click.option(
    "--accept",
    multiple=True,
    metavar="NAME",
    help="Take a finding of the plan on yourself; may be repeated.",
)
@host_options
@click.option("--json", "as_json", is_flag=True, help="Print the run's summary as JSON.")
def command(
    run_file: str,
    overrides: tuple[str, ...],
    accept: tuple[str, ...],
    nnodes: int | None,
    node_rank: int,
    rdzv_endpoint: str | None,
    as_json: bool,
) -> None:
    """Train a run file, or a run made with `tunebook new`.

    key=value changes a value of the run file, as in train.learning_rate=1e-4. On several hosts the
    same command runs on each, in a book that all of them see.
    """
    from tunebook.cli.live import make_view
    from tunebook.cli.result import print_result
    from tunebook.workflows.hosts import make_hosts
    from tunebook.workflows.train import train

    hosts = make_hosts(nnodes, node_rank, rdzv_endpoint)
    with make_view() as view:
        summary = train(run_file, overrides, accept=accept, watch=view, hosts=hosts)
    print_result(summary, as_json)
