"""How a talk is shown: on a terminal, as plain lines, or as a JSON object for each turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

import click

from tunebook.terminal import console, visible

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.status import Status

    from tunebook.workflows.talk import Answer, Talk, Turn

_NARROW = 80
"""Below so many columns two answers stand one under the other."""
_UNFINISHED = "\ufffd"  # what a decoder writes for a letter whose last bytes are still to come


class Screen(Protocol):
    """Shows a talk."""

    @property
    def told(self) -> Callable[[str, str], None] | None:
        """What hears of every token; None where nobody looks before the end."""
        ...

    def note(self, text: str) -> None:
        """Say something that is no part of the talk."""
        ...

    def begin(self, talk: Talk) -> None:
        """Say who talks, and how."""
        ...

    def open(self, talk: Talk) -> None:
        """Show what the models said first."""
        ...

    def answered(self, number: int, turn: Turn) -> None:
        """Show what was answered."""
        ...


class PlainScreen:
    """Answers on standard output, with names where several speak; all else on standard error."""

    @property
    def told(self) -> None:
        """Nobody looks before the end."""
        return None

    def note(self, text: str) -> None:
        """Say something on standard error."""
        click.echo(text, err=True)

    def begin(self, talk: Talk) -> None:
        """Show the opening."""
        self.open(talk)

    def open(self, talk: Talk) -> None:
        """Show the opening, which is the models' own."""
        if talk.opening is not None:
            click.echo(talk.opening)

    def answered(self, number: int, turn: Turn) -> None:
        """Print the answers, a blank line behind those of several."""
        several = len(turn.answers) > 1
        for one in turn.answers:
            click.echo(f"{one.name}: {visible(one.text)}" if several else visible(one.text))
            for words in remarks(one):
                self.note(f"{one.name}: {words}")
        if several:
            click.echo()


class JsonScreen(PlainScreen):
    """A JSON object for each turn on standard output."""

    def open(self, talk: Talk) -> None:
        """Leave the opening out: whoever asked for it knows it."""

    def answered(self, number: int, turn: Turn) -> None:
        """Print the turn."""
        from tunebook.book.codec import dump_json
        from tunebook.workflows.chat import plain_turn

        click.echo(dump_json(plain_turn(number, turn)).decode().rstrip("\n"))


class TerminalScreen:
    """One model's words as they come; those of several side by side when all have spoken."""

    def __init__(self, given: Console | None = None) -> None:
        self.console = given or console(highlight=False)
        self._waiting: Status | None = None
        self._several = False
        self._shown = ""
        self._named = False

    @property
    def told(self) -> Callable[[str, str], None]:
        """What shows words as they come."""
        return self._hear

    def note(self, text: str) -> None:
        """Say something, dimmed, below what was begun."""
        self._stop_waiting()
        if self._named:
            click.echo()
            self._shown, self._named = "", False
        self.console.print(visible(text), style="dim")

    def begin(self, talk: Talk) -> None:
        """Say who talks and how answers are drawn, and show the opening."""
        self._several = len(talk.sides) > 1
        sampling = talk.sampling
        words = [f"temperature {sampling.temperature:g}"]
        if sampling.temperature:
            words += [f"top-p {sampling.top_p:g}", f"seed {talk.seed}"]
        if sampling.repetition_penalty != 1:
            words.append(f"repetition penalty {sampling.repetition_penalty:g}")
        words.append(f"at most {sampling.max_new_tokens:,} tokens")
        names = " and ".join(f"{s.name} (template {s.renderer.name})" for s in talk.sides)
        self.note(f"{names}; {', '.join(words)}; /help lists the commands")
        self.open(talk)

    def open(self, talk: Talk) -> None:
        """Show the opening."""
        if talk.opening is not None:
            self._name(" and ".join(side.name for side in talk.sides))
            self.console.print(visible(talk.opening))

    def answered(self, number: int, turn: Turn) -> None:
        """Show the answers; of a single one what was not shown as it came."""
        self._stop_waiting()
        if not self._several:
            (one,) = turn.answers
            text = visible(one.text)
            if self._shown and not text.startswith(self._shown):
                click.echo()  # later tokens changed letters that were shown
                self._shown, self._named = "", False
            if not self._named:
                self._name(one.name)
            self._go_on(text)
            click.echo()
            self._shown, self._named = "", False
            for words in remarks(one):
                self.note(f"({words})")
        elif self.console.width < _NARROW:
            for one in turn.answers:
                self._name(one.name)
                self.console.print(_with_remarks(one))
        else:
            self.console.print(_columns(turn))

    def _hear(self, name: str, text: str) -> None:
        if self._several:
            self._wait_for(name)
            return
        if not self._named:
            self._name(name)
            self._named = True
        self._go_on(visible(text.rstrip(_UNFINISHED)).rstrip())

    def _go_on(self, text: str) -> None:
        """Write what is new of a text; letters that changed were never written."""
        if text.startswith(self._shown):
            click.echo(text[len(self._shown) :], nl=False)
            self._shown = text

    def _wait_for(self, name: str) -> None:
        if self._waiting is None:
            self._waiting = self.console.status("")
            self._waiting.start()
        self._waiting.update(f"{name} answers")

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.stop()
            self._waiting = None

    def _name(self, name: str) -> None:
        self.console.print(f"{name}: ", style="bold", end="")


def remarks(answer: Answer) -> Iterator[str]:
    """Say what an answer alone does not tell."""
    if answer.messages_left_out:
        n = answer.messages_left_out
        oldest = "message was" if n == 1 else f"{n} messages were"
        yield f"the talk is too long: the oldest {oldest} left out"
    if answer.tokens_left_out:
        yield f"too long: the first {answer.tokens_left_out:,} tokens of it were not read"
    if answer.stopped:
        yield "stopped"
    elif not answer.ended:
        yield f"cut after {answer.tokens:,} tokens"


def _with_remarks(answer: Answer) -> RenderableType:
    from rich.text import Text

    text = Text(visible(answer.text))
    for words in remarks(answer):
        text.append(f"\n({words})", style="dim")
    return text


def _columns(turn: Turn) -> RenderableType:
    from rich.table import Table

    table = Table(box=None, expand=True, padding=(0, 2, 0, 0))
    for one in turn.answers:
        table.add_column(one.name, ratio=1, overflow="fold")
    table.add_row(*(_with_remarks(one) for one in turn.answers))
    return table
