"""`tunebook doctor`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool) -> None:
    """Print versions, devices, memory and disk, to paste into a report."""
    from tunebook.workflows.doctor import examine, report_lines

    report = examine(Path.cwd())
    if as_json:
        import json
        from dataclasses import asdict

        click.echo(json.dumps(asdict(report), indent=2))
        return
    for line in report_lines(report):
        click.echo(line)
