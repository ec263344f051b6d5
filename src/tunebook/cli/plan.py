"""`tunebook plan`."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from tunebook.plan.result import Plan

_WIDEST = 110


@click.command("plan")
@click.argument("run_file", metavar="RUN.yaml|RUN", required=False)
@click.argument("overrides", nargs=-1, metavar="[key=value]...")
@click.option(
    "--device", metavar="NAME", help="Plan for another device: cpu, t4, h200, cuda:15GiB."
)
@click.option("--devices", type=click.IntRange(min=1), metavar="N", help="Plan for N of them.")
@click.option(
    "--accept", multiple=True, metavar="NAME", help="Take a finding on yourself; may be repeated."
)
@click.option("--no-probe", is_flag=True, help="Load no weights: sizes and checks of data only.")
@click.option("--history", is_flag=True, help="Show how far earlier plans (or RUN's) were off.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, also when refused.")
def command(
    run_file: str | None,
    overrides: tuple[str, ...],
    device: str | None,
    devices: int | None,
    accept: tuple[str, ...],
    no_probe: bool,
    history: bool,
    as_json: bool,
) -> int:
    """Show what a run will need and what is wrong with it, before its first step.

    Memory, time, disk, data and the checks; exit code 3 when the run cannot work as it is.
    key=value changes a value of the run file, as in train.micro_batch_size=4.
    """
    if history:
        from tunebook.cli.plan_history import print_history

        print_history(run_file, as_json)
        return 0
    if run_file is None:
        raise click.UsageError("name a run file or a run, or ask for --history")
    from tunebook.workflows.to_plan import recipe_to_plan

    asked = recipe_to_plan(run_file, overrides, device=device, devices=devices, accept=accept)
    # Imported once the run file is found right: torch takes seconds.
    from tunebook.workflows.plan import plan

    found = plan(asked, probe=not no_probe, say=lambda text: click.echo(text, err=True))
    _print(found, as_json)
    if found.refusals:
        from tunebook.errors import PlanRefused
        from tunebook.plan.result import refusal_reason

        raise PlanRefused(refusal_reason(run_file, found.refusals, found.faults))
    return 0


def _print(found: Plan, as_json: bool) -> None:
    if as_json:
        from tunebook.book.codec import dump_json
        from tunebook.plan.result import plan_json

        click.echo(dump_json(plan_json(found), indent=True).decode(), nl=False)
        return
    from tunebook.cli.plan_text import plan_text

    terminal = sys.stdout.isatty()
    width = min(shutil.get_terminal_size().columns, _WIDEST) if terminal else None
    colour = terminal and not os.environ.get("NO_COLOR")
    click.echo(plan_text(found, width, colour=colour), nl=False)
