"""The options of a command that several hosts take together, named as torchrun names them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

T = TypeVar("T", bound=Callable[..., Any])


def host_options(command: T) -> T:
    """Add --nnodes, --node-rank and --rdzv-endpoint."""
    for option in (
        click.option(
            "--rdzv-endpoint", metavar="HOST:PORT", help="Where the hosts meet: the first one."
        ),
        click.option(
            "--node-rank", type=int, default=0, metavar="K", help="Which host this is, from 0."
        ),
        click.option(
            "--nnodes",
            type=click.IntRange(min=1),
            metavar="N",
            help="Hosts that share it.",
        ),
    ):
        command = option(command)
    return command
