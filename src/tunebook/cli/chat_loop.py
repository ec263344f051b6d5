"""What is typed in a talk: messages, and commands that begin with a slash."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from tunebook.errors import TunebookError, UsageError

if TYPE_CHECKING:
    from tunebook.cli.chat_screen import Screen
    from tunebook.workflows.talk import Talk

HELP = (
    ("/help", "this list"),
    ("/regenerate", "answer the last message again, with another seed"),
    ("/undo", "take the last message and its answer back"),
    ("/reset", "begin anew; persona and opening stay"),
    ("/knowledge TEXT", "state a fact for the next answer"),
    ("/save", "append the talk to the run's evaluations"),
    ("/quit", "end the talk, as Ctrl-D does"),
    ("//...", "a message that begins with one slash"),
)


def converse(talk: Talk, lines: Iterator[str], screen: Screen) -> None:
    """Take line after line as a message or a command until there is none, or /quit.

    By hand a mistake is said and the talk goes on; else it is raised.
    """
    screen.begin(talk)
    loop = _Loop(talk, screen)
    for line in lines:
        if not line.strip():
            continue
        try:
            if not loop.take(line.strip()):
                break
        except TunebookError as error:
            if not talk.by_hand:
                raise
            screen.note(" ".join(str(error).split()))
        except KeyboardInterrupt:
            if not talk.by_hand:
                raise
            screen.note("stopped; nothing was added to the talk")
    if talk.by_hand and talk.turns and not loop.saved:
        screen.note("the talk was not saved; /save before the end keeps one")


def typed_lines(screen: Screen) -> Iterator[str]:
    """Yield what is typed at a terminal, with the keys that edit a line; Ctrl-D ends it."""
    import contextlib

    with contextlib.suppress(ImportError):  # some builds of Python have none
        import readline  # noqa: F401 - input() edits lines once it is there
    while True:
        try:
            line = input("\nyou: ")
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            print()
            screen.note("Ctrl-D or /quit ends the talk")
            continue
        except UnicodeDecodeError:
            screen.note("what was typed is not UTF-8")
            continue
        yield line


def piped_lines() -> Iterator[str]:
    """Yield the lines of standard input; UsageError for one that is not UTF-8."""
    for number, line in enumerate(sys.stdin.buffer, 1):
        try:
            yield line.decode("utf-8")
        except UnicodeDecodeError:
            raise UsageError(
                f"line {number} of standard input is not UTF-8; convert it first"
            ) from None


class _Loop:
    """The commands of a talk."""

    def __init__(self, talk: Talk, screen: Screen) -> None:
        self._talk, self._screen = talk, screen
        self.saved = True
        self._commands: dict[str, Callable[[str], bool]] = {
            "/help": self._help,
            "/regenerate": self._regenerate,
            "/undo": self._undo,
            "/reset": self._reset,
            "/knowledge": self._knowledge,
            "/save": self._save,
            "/quit": lambda _rest: False,
        }

    def take(self, line: str) -> bool:
        """Do what a line says; False ends the talk."""
        if not line.startswith("/") or line.startswith("//"):
            turn = self._talk.ask(line.removeprefix("/"), self._screen.told)
            self._screen.answered(len(self._talk.turns), turn)
            self.saved = False
            return True
        word, _, rest = line.partition(" ")
        if word not in self._commands:
            raise UsageError(
                f"there is no command {word}; there is {', '.join(self._commands)}, and // begins "
                "a message with one slash"
            )
        return self._commands[word](rest.strip())

    def _help(self, _rest: str) -> bool:
        for command, meaning in HELP:
            self._screen.note(f"{command:<18}{meaning}")
        return True

    def _regenerate(self, _rest: str) -> bool:
        turn = self._talk.ask_again(self._screen.told)
        self._screen.answered(len(self._talk.turns), turn)
        self.saved = False
        return True

    def _undo(self, _rest: str) -> bool:
        gone = self._talk.undo()
        self._screen.note(f"taken back: {gone.asked}")
        return True

    def _reset(self, _rest: str) -> bool:
        lost = "" if self.saved else "; what was said until now was not saved"
        self._talk.reset()
        self.saved = True
        self._screen.note(f"the talk begins anew{lost}")
        self._screen.open(self._talk)
        return True

    def _knowledge(self, rest: str) -> bool:
        if not rest:
            raise UsageError("/knowledge needs the fact, as /knowledge The bar closes at ten.")
        self._talk.know(rest)
        self._screen.note("stated before the next answer")
        return True

    def _save(self, _rest: str) -> bool:
        from tunebook.workflows.chat import save_talk

        path, n_new = save_talk(self._talk)
        self.saved = True
        self._screen.note(f"{n_new} {'turn' if n_new == 1 else 'turns'} added to {path}")
        return True
