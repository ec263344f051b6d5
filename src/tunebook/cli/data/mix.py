"""`tunebook data mix`: what an epoch takes of every source of a run file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click

from tunebook.units import format_count, format_percent


@click.command("mix")
@click.argument("run_file", metavar="RUN_FILE")
@click.argument("overrides", nargs=-1, metavar="[key=value]...")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, as in data.json.")
def command(run_file: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Show where the rows of RUN_FILE go, and what an epoch takes of each source.

    key=value tries another mixture, as in data.0.weight=2; nothing is tokenized again for it.
    """
    from tunebook.workflows.data_mix import mix

    found = mix(run_file, overrides, say=lambda text: click.echo(text, err=True))
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False, indent=2, default=dict))
        return
    _print_rows(found["sources"])
    click.echo()
    _print_epoch(found["mixture"])
    if "parts" in found:
        click.echo()
        _print_parts(found["parts"])


def _print_rows(sources: Sequence[Mapping[str, Any]]) -> None:
    header = ["source", "rows in", "dropped", "left aside", "train", "held out", "documents"]
    keys = ("train_rows", "validation_rows", "documents")
    print_columns(
        header,
        [
            [one["name"], format_count(one["rows_in"])]
            + [format_count(n) for n in _drops_and_asides(one["dropped"])]
            + [format_count(one[key]) for key in keys]
            for one in sources
        ],
    )
    for one in sources:
        why = ", ".join(f"{format_count(n)} {reason}" for reason, n in one["dropped"].items())
        if why:
            click.echo(f"{one['name']}: {why}")


def _drops_and_asides(counts: Mapping[str, int]) -> tuple[int, int]:
    """Part the rows that cannot be used from those that a sample or a part does not ask for."""
    from tunebook.data.sides import ASIDE

    aside = sum(n for why, n in counts.items() if why in ASIDE)
    return sum(counts.values()) - aside, aside


def _print_epoch(mixture: Sequence[Mapping[str, Any]]) -> None:
    packed = any(share["packing_efficiency"] is not None for share in mixture)
    header = ["an epoch", "weight", "rows", "examples", "", "tokens", "", "target tokens", ""]
    lines = []
    for share in mixture:
        line = [share["name"], f"{share['weight']:g}", format_count(share["rows"])]
        for key in ("examples", "tokens", "target_tokens"):
            part = share["share_of"][key]
            line += [format_count(share[key]), "" if part is None else format_percent(part)]
        if packed:
            filled = share["packing_efficiency"]
            line.append("" if filled is None else format_percent(filled))
        lines.append(line)
    if len(mixture) > 1:
        sums = {
            key: format_count(sum(share[key] for share in mixture))
            for key in ("rows", "examples", "tokens", "target_tokens")
        }
        total = ["all", "", sums["rows"], sums["examples"], "", sums["tokens"], ""]
        lines.append([*total, sums["target_tokens"], "", *([""] if packed else [])])
    print_columns([*header, *(["filled"] if packed else [])], lines)


def _print_parts(parts: Mapping[str, Any]) -> None:
    numbered = [*enumerate(parts["slices"], start=1), ("all", parts["whole"])]
    print_columns(
        ["part", "rows", "documents", "examples"],
        [
            [f"{number}{' (this one)' if number == parts['part'] else ''}"]
            + [format_count(one[key]) for key in ("rows", "documents", "examples")]
            for number, one in numbered
        ],
    )


def print_columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print aligned columns, the first to the left and numbers to the right."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    for row in (header, *rows):
        cells = [
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        click.echo("  ".join(cells).rstrip())
