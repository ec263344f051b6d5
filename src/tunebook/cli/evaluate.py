"""`tunebook evaluate`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tunebook.units import format_number

if TYPE_CHECKING:
    from tunebook.records import Evaluation

_SHOWN = 80


@click.command("evaluate")
@click.argument("run")
@click.option("--data", metavar="FILE", help="Score this file in place of the held-out examples.")
@click.option(
    "--weights",
    default="base,final",
    metavar="NAMES",
    help="Which: base, final, best, step-N; the first is what the others are held against.",
)
@click.option("--template", metavar="NAME", help="Ask in this template in place of the run's own.")
@click.option("--harness", metavar="TASK", help="Ask a task of lm-eval-harness instead.")
@click.option(
    "--include-path",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="With --harness: a folder of task files of your own.",
)
@click.option("--device", help="auto, cpu, cuda or mps in place of the run's own.")
@click.option("--json", "as_json", is_flag=True, help="Print the evaluations as JSON.")
def command(
    run: str,
    data: str | None,
    weights: str,
    template: str | None,
    harness: str | None,
    include_path: Path | None,
    device: str | None,
    as_json: bool,
) -> None:
    """Score a run's weights and its base on the same examples, with intervals.

    Loss per target token, perplexity and bits per byte; intervals count documents, not tokens.
    """
    from tunebook.book.places import find_book
    from tunebook.workflows.weights import refuse_missing

    def say(text: str) -> None:
        click.echo(text, err=True)

    names = [name.strip() for name in weights.split(",") if name.strip()]
    refuse_missing(find_book(), run, names)
    if harness is not None:
        from tunebook.workflows.harness import run_harness

        if data is not None or template is not None:
            raise click.UsageError("--harness asks a task's own questions; leave --data out")
        found = run_harness(
            run,
            find_book(),
            harness,
            include=include_path,
            weights=names,
            device=device,
            say=say,
        )
    else:
        from tunebook.workflows.evaluate import evaluate

        found = evaluate(
            run, find_book(), path=data, template=template, weights=names, device=device, say=say
        )
    if as_json:
        from tunebook.book.codec import dump_json

        click.echo(dump_json(found, indent=True).decode(), nl=False)
        return
    for line in _lines(found) if harness is None else _harness_lines(found):
        click.echo(line)


def _harness_lines(evaluations: Sequence[Evaluation]) -> Iterator[str]:
    from tunebook.pages.evaluations import comparison_text, scored_text

    for one in evaluations:
        yield f"{one.subject}: {one.unit} {scored_text(one.score, one.interval)}, n {one.n:,}"
        if one.comparison is not None:
            yield f"  {one.unit}, {one.subject} - {one.against}: {comparison_text(one.comparison)}"


def _lines(evaluations: Sequence[Evaluation]) -> Iterator[str]:
    from tunebook.pages.evaluations import comparison_text, scored_text

    first, last = evaluations[0], dict[str, Any](evaluations[-1].details)
    yield (
        f"{first.n:,} examples of {last['documents']:,} documents, {last['target_tokens']:,} "
        f"target tokens; window and stride {first.settings['window']} tokens; examples "
        f"{first.examples_hash[:12]}"
    )
    for one in evaluations:
        details = dict[str, Any](one.details)
        yield (
            f"{one.subject}: loss {scored_text(one.score, one.interval)}, perplexity "
            f"{scored_text(**details['perplexity'])}"
        )
        if bits := details["bits_per_byte"]:
            yield f"  bits per byte {scored_text(bits['score'], bits['interval'])}"
        if one.comparison is not None:
            yield f"  loss, {one.subject} - {one.against}: {comparison_text(one.comparison)}"
    if len(last["per_source"]) > 1:
        for source, each in last["per_source"].items():
            yield f"{source}: loss {scored_text(each['score'], each['interval'])}"
    subject = evaluations[-1].subject
    for kind in ("lowest", "highest"):
        yield from (f"{subject}, {kind} loss: {_example(line)}" for line in last["examples"][kind])


def _example(line: Mapping[str, Any]) -> str:
    text = " ".join(str(line["text"]).split())
    shown = text if len(text) <= _SHOWN else f"...{text[-_SHOWN:]}"
    return f"{format_number(line['value'] / line['n_units'])}  {line['item_id']}  {shown!r}"
