"""`tunebook data`: look at data before training on it. One file per verb."""

from __future__ import annotations

import click

from tunebook.cli.data import chess, filter, score, show


@click.group()
def command() -> None:
    """Look at data as the model will see it."""


for verb in (chess, filter, score, show):
    command.add_command(verb.command)
