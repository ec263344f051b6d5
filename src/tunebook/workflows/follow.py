"""What the ranks of a team beside the first do: what rank 0 tells them, with all that it takes.

They read the run folder and write nothing in it but their part of a sharded checkpoint, and into
plan.json what memory they ran out of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch.distributed.elastic.multiprocessing.errors import get_error_handler

from tunebook.book.places import RunFolder
from tunebook.data.prepare import prepare
from tunebook.errors import DataError, RankOutOfMemory, StorageError, TunebookError
from tunebook.models.load import choose_device
from tunebook.models.memory import is_out_of_memory
from tunebook.models.tokenizer import load_tokenizer
from tunebook.records import StepRecord
from tunebook.step.score import score_examples
from tunebook.step.team import join_team
from tunebook.step.update import StepOutOfMemory
from tunebook.train.loop import training_steps
from tunebook.train.state import write_state, write_weights
from tunebook.workflows.before import (
    Run,
    answer,
    build,
    make_training,
    tokens_of,
    validation_batches_of,
)
from tunebook.workflows.out_of_memory import record, way_out


class _Nothing:
    """Takes down nothing: rank 0 does."""

    def write(self, kind: str, payload: object) -> None:
        """Forget it."""


def follow(folder: RunFolder, stop_code: Callable[[], int | None]) -> None:
    """Train a run beside rank 0 until it says that it is over.

    The supervisor is told the sentence of a TunebookError, and RankOutOfMemory is one.
    """
    run = Run(folder, _Nothing(), lambda: None)
    try:
        run.team = join_team(choose_device(run.recipe.device))
        _follow(run, stop_code)
    except Exception as error:
        told = _out_of_memory(run, error)
        if told is not None or isinstance(error, TunebookError):
            # What `torch.distributed.run` gives its caller as the reason of a rank's end.
            get_error_handler().record_exception(told or error)
        if told is not None:
            raise told from None
        raise


def _out_of_memory(run: Run, error: Exception) -> RankOutOfMemory | None:
    if isinstance(error, StepOutOfMemory):
        with suppress(StorageError):  # what it is told by counts for more
            record(run, error)
        return RankOutOfMemory(way_out(run, error))
    if is_out_of_memory(error):
        return RankOutOfMemory(
            f"out of memory outside of a step's micro-batches ({type(error).__name__}); free "
            f"memory and `tunebook resume {run.run.name}`"
        )
    return None


def _follow(run: Run, stop_code: Callable[[], int | None]) -> None:
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
    run.codec = load_tokenizer(run.recipe.model, run.recipe.add_tokens, run.run.cache_dir)
    # Rank 0 has made the tokens by now.
    run.prepared = prepare(run.recipe, run.codec, run.run.cache_dir, lambda _text: None)
    run.micro_batch_size = order["micro_batch_size"]
    if tokens_of(run) != order["tokens"]:
        raise DataError(
            f"rank {run.team.rank} reads other tokens than rank 0: a data file or the tokenizer "
            f"changed just now; `tunebook resume {run.run.name}` reads them anew"
        )
    checkpoint = order["checkpoint"]
    build(run, Path(checkpoint) if checkpoint else None, order["checkpointing"])
    make_training(run)
