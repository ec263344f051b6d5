"""`tunebook evaluate`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from tunebook.units import format_count, format_number

if TYPE_CHECKING:
    from tunebook.records import Evaluation


@click.command("evaluate")
@click.argument("run")
@click.option("--data", metavar="FILE", help="Score this file in place of the held-out examples.")
@click.option(
    "--weights",
    default="base,final",
    metavar="NAMES",
    help="Which: base, final, best, step-N; the first is what the others are held against.",
)
@click.option("--device", help="auto, cpu, cuda or mps in place of the run's own.")
@click.option("--json", "as_json", is_flag=True, help="Print the evaluations as JSON.")
def command(run: str, data: str | None, weights: str, device: str | None, as_json: bool) -> None:
    """Score a run's weights and its base on the same examples, with intervals.

    Loss per target token, perplexity and bits per byte; intervals count documents, not tokens.
    """
    from tunebook.book.places import find_book
    from tunebook.workflows.evaluate import evaluate

    def say(text: str) -> None:
        click.echo(text, err=True)

    names = [name.strip() for name in weights.split(",") if name.strip()]
    found = evaluate(run, find_book(), path=data, weights=names, device=device, say=say)
    if as_json:
        from tunebook.book.codec import dump_json

        click.echo(dump_json(found.evaluations, indent=True).decode(), nl=False)
        return
    for line in _lines(found.evaluations):
        click.echo(line)


def _lines(evaluations: tuple[Evaluation, ...]) -> list[str]:
    from tunebook.pages.evaluations import interval_text, verdict_text

    first = evaluations[0]
    lines = [
        f"{format_count(first.n)} examples of {format_count(first.details['documents'])} documents, "
        f"{format_count(first.details['target_tokens'])} target tokens; window and stride "
        f"{first.settings['window']} tokens; examples {first.examples_hash[:12]}"
    ]
    for one in evaluations:
        bits = one.details["bits_per_byte"]
        lines.append(
            f"{one.subject:<10} loss {_scored(one.score, one.interval)}  perplexity "
            f"{_scored(**one.details['perplexity'])}"
            + (f"  bits per byte {_scored(bits['score'], bits['interval'])}" if bits else "")
        )
    for one in evaluations[1:]:
        compared = one.details.get("comparison")
        if compared:
            lines.append(
                f"{one.subject} - {one.details['against']}: "
                f"{format_number(compared['difference'])} ({interval_text(compared['interval'])}), "
                f"p {format_number(compared['p'])}: {verdict_text(compared)}"
            )
    last = evaluations[-1]
    if len(last.details["per_source"]) > 1:
        for source, each in last.details["per_source"].items():
            lines.append(f"{last.subject}, {source}: {_scored(each['score'], each['interval'])}")
    for kind, examples in last.details["examples"].items():
        lines += [f"{kind} loss: {_example(each)}" for each in examples[:1] if kind != "random"]
    return lines


def _scored(score: float | None, interval: Any) -> str:
    from tunebook.pages.evaluations import interval_text

    return f"{format_number(score)} ({interval_text(interval)})"


def _example(line: Mapping[str, Any]) -> str:
    text = " ".join(str(line["text"]).split())
    shown = text if len(text) <= 100 else f"...{text[-100:]}"
    return f"{format_number(line['value'] / line['n_units'])} {line['item_id']} {shown!r}"
