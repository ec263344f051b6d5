"""`tunebook judge`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tunebook.units import format_count, format_number

if TYPE_CHECKING:
    from tunebook.records import Estimate, Evaluation


@click.command("judge")
@click.argument("run", required=False)
@click.option("--questions", metavar="FILE", help="Ask these in place of the held-out examples.")
@click.option("--n", default=110, show_default=True, type=click.IntRange(1), help="How many.")
@click.option("--judge", "judge_file", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--base-url", metavar="URL", help="Where the judge is, as http://127.0.0.1:8000/v1.")
@click.option("--judge-model", metavar="NAME", help="What the endpoint calls the judge.")
@click.option("--key-env", metavar="VARIABLE", help="The environment variable with the key.")
@click.option("--prompt", metavar="NAME", help="default, notebook-002, or a file with a rubric.")
@click.option(
    "--repeats", default=1, show_default=True, type=click.IntRange(1), help="Judge each K times."
)
@click.option(
    "--weights", default="base,final", show_default=True, help="Which: final, best, step-N; base."
)
@click.option("--anchor", is_flag=True, help="Score the book's frozen answers first.")
@click.option("--pairwise", is_flag=True, help="Which of two answers is better, in both orders.")
@click.option("--against", metavar="RUN", help="Whose answers, with --pairwise; else the base's.")
@click.option("--rate", type=float, metavar="N", help="Requests a minute, at most.")
@click.option("--concurrency", type=int, metavar="N", help="Questions at a time; 8.")
@click.option("--max-new-tokens", default=256, show_default=True, type=click.IntRange(1))
@click.option("--template", metavar="NAME", help="Ask in this template in place of the run's own.")
@click.option("--device", help="auto, cpu, cuda or mps in place of the run's own.")
@click.option(
    "--scores",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Only the mean with its interval of scores made elsewhere; needs no run.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(
    run: str | None,
    questions: str | None,
    n: int,
    judge_file: Path | None,
    base_url: str | None,
    judge_model: str | None,
    key_env: str | None,
    prompt: str | None,
    repeats: int,
    weights: str,
    anchor: bool,
    pairwise: bool,
    against: str | None,
    rate: float | None,
    concurrency: int | None,
    max_new_tokens: int,
    template: str | None,
    device: str | None,
    scores: Path | None,
    as_json: bool,
) -> None:
    """Let a language model score a run's answers and its base's from 0 to 100.

    Any endpoint that speaks the protocol of OpenAI: hosted, vLLM, llama.cpp, Ollama. What was
    scored is kept: the same command goes on after an interruption.
    """
    if scores is not None:
        if run is not None:
            raise click.UsageError("give a run or --scores, not both")
        _print_scores(scores, as_json)
        return
    if run is None:
        raise click.UsageError("name a run to judge, or --scores FILE")
    given = {
        "base_url": base_url,
        "model": judge_model,
        "key_env": key_env,
        "prompt": prompt,
        "rate_per_minute": rate,
        "concurrency": concurrency,
    }
    if against is not None and not pairwise:
        raise click.UsageError("--against needs --pairwise; `tunebook compare` holds runs together")
    if pairwise and anchor:
        raise click.UsageError("--anchor is for scores; leave it out with --pairwise")
    from tunebook.book.places import find_book
    from tunebook.evaluate.judge.settings import usable_judge
    from tunebook.workflows.weights import refuse_missing

    def say(text: str) -> None:
        click.echo(text, err=True)

    judge = usable_judge(judge_file, given)
    names = [name.strip() for name in weights.split(",") if name.strip()]
    refuse_missing(find_book(), run, names)
    # What comes now takes seconds to import.
    from tunebook.evaluate.judge.prompts import find_pair_prompt, find_prompt
    from tunebook.workflows.judge import Asked, judge_run
    from tunebook.workflows.judge_pairs import judge_pairs
    from tunebook.workflows.judging import Bench

    asked = Asked(questions, n, repeats, max_new_tokens, anchor, template)
    if pairwise:
        own = [name for name in names if name != "base"]
        if len(own) != 1:
            raise click.UsageError(
                f"--pairwise judges one of a run's weights, and --weights is {weights!r}; "
                "give one, such as --weights best"
            )
        bench = Bench(judge, find_pair_prompt(judge.prompt))
        rival = against or "base"
        one = judge_pairs(
            run, find_book(), bench, asked, against=rival, weights=own[0], device=device, say=say
        )
        found = [one]
    else:
        bench = Bench(judge, find_prompt(judge.prompt))
        found = judge_run(run, find_book(), bench, asked, weights=names, device=device, say=say)
    if as_json:
        from tunebook.book.codec import dump_json

        click.echo(dump_json(_plain(found), indent=True).decode(), nl=False)
        return
    for line in _lines(found):
        click.echo(line)


def _print_scores(path: Path, as_json: bool) -> None:
    from tunebook.statistics.estimate import mean_estimate
    from tunebook.workflows.compare import read_scores

    found = mean_estimate(read_scores(path), "bca")
    if as_json:
        from tunebook.book.codec import dump_json

        click.echo(dump_json(found, indent=True).decode(), nl=False)
    else:
        click.echo(_estimate_line(str(path), found))


def _plain(found: Sequence[Evaluation]) -> dict[str, Any]:
    """Give the first trained weights as the object, with all of them below `evaluations`."""
    from dataclasses import asdict

    shown = next((one for one in found if one.against is not None), found[0])
    return {**asdict(shown), "evaluations": [asdict(one) for one in found]}


def _lines(found: Sequence[Evaluation]) -> Iterator[str]:
    from tunebook.pages.evaluations import comparison_text

    first = found[0]
    settings = dict[str, Any](first.settings)
    judge, prompt = settings["judge"], settings["prompt"]
    temperature = "its own" if judge["temperature"] is None else f"{judge['temperature']:g}"
    yield (
        f"judge      {judge['model']} at {judge['base_url']}, temperature {temperature}, prompt "
        f"{prompt['name']} ({prompt['hash']})"
    )
    yield f"questions  {settings['questions']}, examples {first.examples_hash[:12]}"
    if first.kind == "pairs":
        yield from _pair_lines(first)
    else:
        yield from _anchor_lines(dict[str, Any](first.details)["anchor"])
        for one in found:
            yield _estimate_line(one.subject, one)
            if one.comparison is not None:
                yield f"{one.subject} - {one.against}: {comparison_text(one.comparison)}"
    for one in found:
        yield from _account(one)
    days = sorted({day for one in found for day in dict[str, Any](one.details)["days"]})
    if len(days) > 1:
        between = f"{days[0]} to {days[-1]}"
        yield f"days       scored from {between}; --anchor tells whether the judge moved"


def _anchor_lines(anchor: Mapping[str, Any] | None) -> Iterator[str]:
    from tunebook.pages.evaluations import scored_text

    if anchor is None:
        return
    if anchor["comparison"] is None:
        yield f"anchor     {anchor['n']} answers frozen; the next session is held against this one"
        return
    moved = (
        "the judge moved: scores of earlier sessions do not compare with these"
        if anchor["moved"]
        else "no sign that the judge moved"
    )
    found = anchor["comparison"]
    shown = f"{scored_text(found['difference'], found['interval'])}, p {format_number(found['p'])}"
    yield f"anchor     {shown} since {anchor['since'][:10]}: {moved}"


def _pair_lines(one: Evaluation) -> Iterator[str]:
    from tunebook.pages.evaluations import scored_text
    from tunebook.statistics.words import verdict_text

    details = dict[str, Any](one.details)
    won, fair = details["win_rate"], details["length_controlled"]
    if one.comparison is not None:
        scored = f"{scored_text(one.score, one.interval)} of {one.n} against {one.against}"
        yield f"won        {scored}: {verdict_text(one.comparison)}"
        length = "the answers are too few, or too alike in length or outcome, to tell it"
        if fair is not None:
            length = scored_text(fair["score"], fair["interval"])
        yield f"length     were both answers as long: {length}"
    if won["consistency"] is not None:
        p = "" if won["position_p"] is None else f" (p {format_number(won['position_p'])})"
        yield (
            f"orders     {won['consistency']:.0%} of the pairs fare the same in both orders; the "
            f"answer shown first wins {won['first_rate']:.0%}{p}"
        )
    if won["message"]:
        yield f"{'no result' if won['level'] == 'refuse' else 'doubt'}  {won['message']}"


def _account(one: Evaluation) -> Iterator[str]:
    """Say what this call asked for it, what went wrong, and what the call cost."""
    details = dict[str, Any](one.details)
    if one.missing:
        why = ", ".join(f"{n} {fault}" for fault, n in details["missing_by_fault"].items())
        bounds = ""
        if details.get("bounds") is not None:
            low, high = (format_number(bound) for bound in details["bounds"])
            bounds = f"; the mean is {low} to {high}, whatever they would have been"
        yield f"missing    {one.subject}: {why}{bounds}"
    if details["faults"]:
        counted = ", ".join(f"{n} {fault}" for fault, n in details["faults"].items())
        yield f"faults     {one.subject}: {counted}"
    if noise := details.get("noise"):
        yield (
            f"noise      {one.subject}: SD {format_number(noise['judge_sd'])} of the judge on one "
            f"answer, {format_number(noise['question_sd'])} between questions"
        )
    if details["empty_answers"]:
        n_empty = format_count(details["empty_answers"])
        yield f"empty      {one.subject}: {n_empty} answers without text score 0, unasked"
    call = details["this_call"]
    tokens = [call[key] for key in ("prompt_tokens", "completion_tokens")]
    sent, received = ("unknown" if n is None else format_count(n) for n in tokens)
    cost = "unknown" if call["cost"] is None else f"{call['cost']:.4f}"
    yield (
        f"asked      {one.subject}: {format_count(call['asked'])} questions in "
        f"{format_count(call['requests'])} requests, {format_count(call['known'])} known "
        f"from before; tokens {sent} in, {received} out; cost {cost}"
    )
    for tag, each in details.get("per_tag", {}).items():
        from tunebook.pages.evaluations import scored_text

        yield f"  {tag}: {scored_text(each['score'], each['interval'])}, n {each['n']}"


def _estimate_line(name: str, found: Estimate | Evaluation) -> str:
    from tunebook.pages.evaluations import scored_text

    missing = f", {format_count(found.missing)} missing" * bool(found.missing)
    scored = scored_text(found.score, found.interval)
    return f"{name:<9}  {scored}, n {format_count(found.n)}{missing}"
