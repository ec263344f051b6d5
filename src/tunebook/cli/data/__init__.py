"""`tunebook data`: look at data before training on it. One file per verb."""

from __future__ import annotations

import click

from tunebook.cli.data import chess, filter, mix, prepare, score, show, split, stats


@click.group()
def command() -> None:
    """Look at data as the model will see it."""


for verb in (chess, filter, mix, prepare, score, show, split, stats):
    command.add_command(verb.command)
