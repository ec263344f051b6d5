"""Tell which commands a text names that are none, and which options."""

from __future__ import annotations

import importlib
import shlex
from collections.abc import Iterator

import click

from tunebook.cli.main import VERBS


def wrong_with(line: str) -> str | None:
    """Say what is wrong with a command line that begins with `tunebook`; None: nothing is.

    Only verbs and options are looked at: names and values are whatever the page made up.
    """
    try:
        words = shlex.split(line, comments=True)[1:]
    except ValueError as error:
        return f"{line}: {error}"
    if not words or words[0] in ("--version", "--help", "--verbose", "--debug"):
        return None
    verb = words.pop(0)
    if verb not in VERBS:
        return None if not verb.islower() else f"{line}: there is no verb {verb}"
    command: click.Command = importlib.import_module(f"tunebook.cli.{verb}").command
    while isinstance(command, click.Group) and words and words[0] in command.commands:
        command = command.commands[words.pop(0)]
    known = {name for param in command.params for name in (*param.opts, *param.secondary_opts)}
    for word in words:
        option = word.partition("=")[0]
        if option.startswith("--") and option not in {*known, "--help", "--verbose", "--debug"}:
            return f"{line}: {verb} has no {option}"
        if word in ("|", "&&", ";", ">"):
            break
    return None


def commands_in(text: str) -> Iterator[str]:
    """Give the command lines of a text: those of its blocks, and those in backquotes."""
    fenced = False
    for line in text.splitlines():
        if line.lstrip().startswith(("```", "~~~")):
            fenced = not fenced
        elif fenced:
            found = line.strip().removeprefix("$ ")
            if found.startswith("tunebook ") and not found.endswith("\\"):
                yield found.partition("     ")[0]
        else:
            # Every other piece between backquotes is code; a cell of a table keeps them whole.
            yield from (part for part in line.split("`")[1::2] if part.startswith("tunebook "))
