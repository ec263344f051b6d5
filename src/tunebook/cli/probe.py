"""`tunebook probe`."""

from __future__ import annotations

import click


@click.command("probe")
@click.argument("run")
@click.option("--probes", metavar="FILE", help="Your own prompts: JSON rows with a group each.")
@click.option("--facts", metavar="FILE", help="Ask these instead, with a stated fact and without.")
@click.option("--prompts", default=64, show_default=True, help="Held-out examples to ask.")
@click.option("--repeats", default=4, show_default=True, help="Answers to each prompt.")
@click.option("--max-new-tokens", default=48, show_default=True, help="Length of an answer.")
@click.option("--temperature", default=1.0, show_default=True, help="0 takes the likeliest token.")
@click.option("--seed", default=0, show_default=True, help="Decides what is drawn.")
@click.option(
    "--weights",
    default="base,final",
    metavar="NAMES",
    help="Which: final, best, step-N; each is held against the base.",
)
@click.option("--show", multiple=True, metavar="PROMPT", help="Show what was answered to it.")
@click.option("--device", help="auto, cpu, cuda or mps in place of the run's own.")
@click.option("--json", "as_json", is_flag=True, help="Print the evaluations as JSON.")
def command(
    run: str,
    probes: str | None,
    facts: str | None,
    prompts: int,
    repeats: int,
    max_new_tokens: int,
    temperature: float,
    seed: int,
    weights: str,
    show: tuple[str, ...],
    device: str | None,
    as_json: bool,
) -> None:
    """Ask a run's weights and its base fixed prompts, and measure what training changed.

    Groups: in (held-out examples), near, out (general questions), ladder. Each number comes with
    an interval and the paired difference from the base; fewer than 40 prompts get no verdict.
    With --facts, only what answers say of a fact that a knowledge turn states is counted, with that
    turn and without it.
    """
    from tunebook.book.places import find_book
    from tunebook.workflows.weights import refuse_missing

    if facts is not None and (probes is not None or show):
        raise click.UsageError("--facts asks its own questions; leave --probes and --show out")
    names = [name.strip() for name in weights.split(",") if name.strip()]
    refuse_missing(find_book(), run, names)
    from tunebook.models.generate import Sampling

    sampling = Sampling(max_new_tokens, temperature)

    def say(text: str) -> None:
        click.echo(text, err=True)

    if facts is not None:
        from tunebook.workflows.probe_facts import probe_facts

        found = probe_facts(
            run,
            find_book(),
            facts,
            weights=names,
            sampling=sampling,
            repeats=repeats,
            seed=seed,
            device=device,
            say=say,
        )
    else:
        from tunebook.workflows.probe import probe

        found = probe(
            run,
            find_book(),
            path=probes,
            weights=names,
            sampling=sampling,
            repeats=repeats,
            prompts=prompts,
            seed=seed,
            show=show,
            device=device,
            say=say,
        )
    if as_json:
        from tunebook.book.codec import dump_json

        click.echo(dump_json(found, indent=True).decode(), nl=False)
        return
    from tunebook.pages.facts import fact_lines
    from tunebook.pages.probes import probe_lines

    for one in found:
        for line in probe_lines(one) if facts is None else fact_lines(one):
            click.echo(line)
