"""`tunebook probe`."""

from __future__ import annotations

import click


@click.command("probe")
@click.argument("run")
@click.option("--probes", metavar="FILE", help="Your own prompts: JSON rows with a group each.")
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
@click.option("--device", help="auto, cpu, cuda or mps in place of the run's own.")
@click.option("--json", "as_json", is_flag=True, help="Print the evaluations as JSON.")
def command(
    run: str,
    probes: str | None,
    prompts: int,
    repeats: int,
    max_new_tokens: int,
    temperature: float,
    seed: int,
    weights: str,
    device: str | None,
    as_json: bool,
) -> None:
    """Ask a run's weights and its base fixed prompts, and measure what training changed.

    Groups: in (held-out examples), near, out (general questions), ladder. Each number comes with
    an interval and the paired difference from the base; fewer than 40 prompts get no verdict.
    """
    from tunebook.book.places import find_book
    from tunebook.models.generate import Sampling
    from tunebook.workflows.probe import probe

    found = probe(
        run,
        find_book(),
        path=probes,
        weights=[name.strip() for name in weights.split(",") if name.strip()],
        sampling=Sampling(max_new_tokens, temperature),
        repeats=repeats,
        prompts=prompts,
        seed=seed,
        device=device,
        say=lambda text: click.echo(text, err=True),
    )
    if as_json:
        from tunebook.book.codec import dump_json

        click.echo(dump_json(found, indent=True).decode(), nl=False)
        return
    from tunebook.pages.probes import probe_lines

    for one in found:
        for line in probe_lines(one):
            click.echo(line)
