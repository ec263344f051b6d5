"""`tunebook chat`."""

from __future__ import annotations

import sys

import click


@click.command("chat")
@click.argument("run")
@click.option(
    "--vs", "versus", metavar="NAME", help="base, RUN or RUN/best: answers each turn as well."
)
@click.option("--weights", default="final", show_default=True, help="final, best or step-N.")
@click.option("--persona", metavar="TEXT", help="Who the model is to be.")
@click.option("--opening", metavar="TEXT", help="The model's first message.")
@click.option("--knowledge", metavar="TEXT", help="A fact that the first answer is to draw on.")
@click.option(
    "--temperature",
    default=0.7,
    show_default=True,
    type=click.FloatRange(0, 10),
    help="0 takes the likeliest token.",
)
@click.option(
    "--top-p", default=0.95, show_default=True, type=click.FloatRange(1e-6, 1), help="1 is off."
)
@click.option(
    "--repetition-penalty",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0.1, 10),
    help="1 is off.",
)
@click.option(
    "--max-new-tokens",
    default=256,
    show_default=True,
    type=click.IntRange(1),
    help="Length of an answer.",
)
@click.option("--seed", default=0, show_default=True, help="Decides what is drawn.")
@click.option("--device", help="auto, cpu, cuda or mps in place of the run's own.")
@click.option("--json", "as_json", is_flag=True, help="Print each turn as a JSON object.")
def command(
    run: str,
    versus: str | None,
    weights: str,
    persona: str | None,
    opening: str | None,
    knowledge: str | None,
    temperature: float,
    top_p: float,
    repetition_penalty: float,
    max_new_tokens: int,
    seed: int,
    device: str | None,
    as_json: bool,
) -> None:
    """Talk to a run's weights, in the template they were trained in.

    With --vs each turn is answered by both, side by side. /help lists what can be said beside
    messages; Ctrl-C ends an answer, Ctrl-D the talk. Without a terminal each line of standard input
    is a turn.
    """
    from tunebook.book.places import find_book
    from tunebook.cli.chat_loop import converse, piped_lines, typed_lines
    from tunebook.cli.chat_screen import JsonScreen, PlainScreen, Screen, TerminalScreen
    from tunebook.workflows.weights import refuse_missing

    refuse_missing(find_book(), run, [weights])
    by_hand = sys.stdin.isatty() and sys.stdout.isatty() and not as_json
    screen: Screen = TerminalScreen() if by_hand else JsonScreen() if as_json else PlainScreen()
    # What comes now takes seconds to import.
    from tunebook.models.generate import Sampling
    from tunebook.workflows.chat import Frame, open_talk

    talk = open_talk(
        run,
        find_book(),
        Frame(persona, opening, knowledge),
        Sampling(max_new_tokens, temperature, top_p, repetition_penalty),
        weights=weights,
        versus=versus,
        seed=seed,
        device=device,
        by_hand=by_hand,
        say=screen.note,
    )
    converse(talk, typed_lines(screen) if by_hand else piped_lines(), screen)
