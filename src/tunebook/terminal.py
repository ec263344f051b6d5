"""What stands between words of others and the terminal: nothing they say can command it.

Rows, names, notes, errors and answers of models are printed as they are, and may hold control
characters: a terminal would clear itself, fill the clipboard or show other words than are there.
So the two streams of a command write such characters as JSON would, `\\u001b`, which also leaves
printed JSON what it was. Of sequences only the colours of tunebook's own lines come through, and
only on a terminal. What draws in place goes by `console` or `redraw`, which filter what is said
and not how it is drawn.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO, cast

if TYPE_CHECKING:
    from rich.console import Console

# C0 but for tab and line end, DEL, C1, and the signs that turn the direction of text around.
_COMMANDS = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]|\r(?!\n)"
_FORBIDDEN = re.compile(_COMMANDS)
# Bold, dim, red to white and back: they colour words, and cannot hide them as others can.
_FORBIDDEN_OR_COLOUR = re.compile(rf"(\x1b\[(?:0|1|2|3[1-7])m)|{_COMMANDS}")
# How the bars of tqdm, which libraries draw downloads with, step between their lines.
_STEPS = re.compile(r"(?:\n|\x1b\[A)+")


def visible(text: str) -> str:
    """Write what would command a terminal, or turn text around, as `\\u001b` and its like."""
    return _FORBIDDEN.sub(_escaped, text)


class SafeStream:
    """A text stream that shows control characters instead of sending them.

    On a terminal, colours of `click.style` come through, and what moves a bar of tqdm: a carriage
    return at the begin of what is written, and steps between lines with nothing else.
    """

    def __init__(self, stream: TextIO) -> None:
        self.raw = stream
        self._terminal = stream.isatty()

    def write(self, text: str) -> int:
        """Write text; the count is that of the text as it was given."""
        self.raw.write(self._on_terminal(text) if self._terminal else visible(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write texts one after the other."""
        for line in lines:
            self.write(line)

    def _on_terminal(self, text: str) -> str:
        if _STEPS.fullmatch(text):
            return text
        begin = "\r" if text.startswith("\r") else ""
        return begin + _FORBIDDEN_OR_COLOUR.sub(
            lambda found: found.group(1) or _escaped(found), text[len(begin) :]
        )

    def __getattr__(self, name: str) -> Any:
        if name == "buffer":  # bytes would pass by what is looked for here
            raise AttributeError(name)
        return getattr(self.raw, name)


def fill_closed_streams() -> None:
    """Put the null device where a standard stream was closed before this process began (`>&-`).

    Else the next file that is opened takes its place, and gets what a child or a library prints.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
            os.set_inheritable(number, True)
    for name, number in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            mode = "w" if number else "r"
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


@contextmanager
def shown_safely() -> Iterator[None]:
    """Let whatever is printed in the block pass a `SafeStream`."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast(TextIO, SafeStream(stream)) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def redraw(text: str = "") -> None:
    """Put text in place of the line of stderr that stands there; only for a terminal."""
    stream = _raw(sys.stderr)
    stream.write(f"\r{visible(text)}\x1b[K")
    stream.flush()


def console(*, stderr: bool = False, highlight: bool = True, soft_wrap: bool = False) -> Console:
    """Make a console of rich that draws as it likes, and shows control characters of any text.

    It reads no markup: words in brackets are words.
    """
    from rich.console import Console
    from rich.segment import Segment

    class Safe(Console):
        def render(self, *given: Any, **named: Any) -> Iterator[Segment]:
            for part in super().render(*given, **named):
                if part.control:
                    yield part
                else:
                    yield Segment(visible(part.text), part.style)

    return Safe(
        file=_raw(sys.stderr if stderr else sys.stdout),
        highlight=highlight,
        soft_wrap=soft_wrap,
        markup=False,
        emoji=False,
    )


def _raw(stream: TextIO) -> TextIO:
    return stream.raw if isinstance(stream, SafeStream) else stream


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found.group()):04x}"
