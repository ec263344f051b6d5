"""`tunebook grid`."""

from __future__ import annotations

from pathlib import Path

import click

from tunebook.errors import UsageError


@click.command("grid")
@click.argument("run")
@click.option("--temperatures", default="0,0.5,0.65,0.8,1.0", show_default=True, help="0: greedy.")
@click.option("--top-p", default="0.9,1.0", show_default=True, help="1 is off.")
@click.option("--repetition-penalty", default="1.0,1.1", show_default=True, help="1 is off.")
@click.option("--questions", metavar="FILE", help="Ask these in place of the held-out examples.")
@click.option("--prompts", default=40, show_default=True, help="How many prompts.")
@click.option("--repeats", default=4, show_default=True, help="Answers to each; greedy gives one.")
@click.option("--max-new-tokens", default=48, show_default=True, help="Length of an answer.")
@click.option("--by", default="rep-4", show_default=True, help="What is to be low; judge: high.")
@click.option("--judge", metavar="FILE", type=click.Path(path_type=Path), help="Score by a judge.")
@click.option("--weights", default="final", show_default=True, help="final, best or step-N.")
@click.option("--seed", default=0, show_default=True, help="Decides what is drawn.")
@click.option("--device", help="auto, cpu, cuda or mps in place of the run's own.")
@click.option("--json", "as_json", is_flag=True, help="Print the evaluation as JSON.")
def command(
    run: str,
    temperatures: str,
    top_p: str,
    repetition_penalty: str,
    questions: str | None,
    prompts: int,
    repeats: int,
    max_new_tokens: int,
    by: str,
    judge: Path | None,
    weights: str,
    seed: int,
    device: str | None,
    as_json: bool,
) -> None:
    """Answer the same prompts under every way of sampling, and compare the answers.

    In each cell penalty, temperature and top-p work in this order. A cell is recommended only if
    it is different from the one that shapes the model's own distribution the least.
    """
    from tunebook.book.places import find_book
    from tunebook.workflows.weights import refuse_missing

    refuse_missing(find_book(), run, [weights])
    judged_by = None
    if judge is not None:
        from tunebook.evaluate.judge.settings import usable_judge

        judged_by = usable_judge(judge, {})
    from tunebook.evaluate.grid import cells_of
    from tunebook.workflows.grid import grid

    cells = cells_of(
        _numbers("--temperatures", temperatures, 0.0, 10.0),
        _numbers("--top-p", top_p, 1e-6, 1.0),
        _numbers("--repetition-penalty", repetition_penalty, 0.1, 10.0),
        max_new_tokens,
    )
    bench = None
    if judged_by is not None:
        from tunebook.evaluate.judge.prompts import find_prompt
        from tunebook.workflows.judging import Bench

        bench = Bench(judged_by, find_prompt(judged_by.prompt))
    found = grid(
        run,
        find_book(),
        cells,
        path=questions,
        weights=weights,
        prompts=prompts,
        repeats=repeats,
        by=by,
        seed=seed,
        bench=bench,
        device=device,
        say=lambda text: click.echo(text, err=True),
    )
    if as_json:
        from tunebook.book.codec import dump_json

        click.echo(dump_json(found, indent=True).decode(), nl=False)
        return
    from tunebook.pages.grids import grid_lines

    for line in grid_lines(found):
        click.echo(line)


def _numbers(option: str, text: str, low: float, high: float) -> list[float]:
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"{option} {text}: write numbers with commas, as 0.5,0.8") from None
    if wrong := [value for value in found if not low <= value <= high]:
        raise UsageError(f"{option} {wrong[0]:g}: it lies between {low:g} and {high:g}")
    return found
