"""What the ranks of a team beside the first do: what rank 0 tells them, with all that it takes.

They read the run folder and write nothing in it but their part of a sharded checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tunebook.book.places import RunFolder
from tunebook.data.prepare import prepare
from tunebook.models.load import choose_device
from tunebook.models.tokenizer import load_tokenizer
from tunebook.records import StepRecord
from tunebook.step.score import score_examples
from tunebook.step.team import join_team
from tunebook.train.loop import training_steps
from tunebook.train.state import write_state, write_weights
from tunebook.workflows.before import Run, answer, build, make_training, validation_batches_of


class _Nothing:
    """Takes down nothing: rank 0 does."""

    def write(self, kind: str, payload: object) -> None:
        """Forget it."""


def follow(folder: RunFolder, stop_code: Callable[[], int | None]) -> None:
    """Train a run beside rank 0 until it says that it is over."""
    run = Run(folder, _Nothing(), lambda: None)
    run.team = join_team(choose_device(run.recipe.device))
    steps: Iterator[StepRecord] | None = None
    while (order := run.team.hear())["order"] != "end":
        match order["order"]:
            case "build":
                _build(run, order)
            case "step":
                steps = steps or training_steps(run.training, order["step"])
                next(steps, None)
            case "stop?":
                run.team.most(stop_code() or 0)
            case "validate":
                batches = validation_batches_of(run)
                score_examples(run.loaded, run.scorer, batches, run.team)
            case "answer":
                answer(run, order["prompt"])
            case "save":
                write_state(Path(order["folder"]), run.loaded, run.optimization, None, run.team)
            case "final":
                write_weights(Path(order["folder"]), run.loaded, run.optimization, run.team)


def _build(run: Run, order: dict[str, Any]) -> None:
    run.codec = load_tokenizer(run.recipe.model)
    # Rank 0 has made the tokens by now.
    run.prepared = prepare(run.recipe, run.codec, run.run.cache_dir, lambda _text: None)
    run.micro_batch_size = order["micro_batch_size"]
    checkpoint = order["checkpoint"]
    build(run, Path(checkpoint) if checkpoint else None, order["checkpointing"])
    make_training(run)
