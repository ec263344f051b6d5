"""The process that tells a tracker of a run: it reads the events, as any onlooker may.

Started by `workflows.reporters` as `python -m tunebook.workflows.report LOGGER RUN_FOLDER ATTEMPT`.
It ends some time after its standard input closes, whatever the tracker does: the run is over then,
or its launcher is.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunebook.book.feed import EventFeed, FedEvent
from tunebook.book.places import RunFolder
from tunebook.book.run_file import read_own_yaml
from tunebook.book.summary import measure
from tunebook.book.writing import make_folder, refuse_to_write_through_links
from tunebook.errors import first_line
from tunebook.regular import read_regular_text
from tunebook.workflows.report_values import Logger, step_values, validation_values, verdict_words

POLL_SECONDS = 0.5
PATIENCE_SECONDS = 30.0
"""How long a tracker may take for the rest once the run is over."""
# Behind everything that computes.
_NICENESS = 10


def main(which: str, folder: str, attempt: str) -> int:
    """Tell one tracker of a run until its launcher is gone; 1 when the tracker did not take it."""
    path = Path(folder)
    run = RunFolder(path.parent.parent, path.name)
    os.nice(_NICENESS)
    over = _when_launcher_is_gone()
    try:
        _report(which, run, int(attempt), over)
    except Exception as error:  # a tracker's library raises what it likes
        print(f"{type(error).__name__}: {first_line(error)}", file=sys.stderr, flush=True)
        return 1
    return 0


def _when_launcher_is_gone() -> threading.Event:
    """Give an event that is set when standard input closes; the process ends soon after it."""
    over = threading.Event()

    def wait() -> None:
        while os.read(0, 1):
            pass
        over.set()
        threading.Event().wait(PATIENCE_SECONDS)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
    return over


def _report(which: str, run: RunFolder, attempt: int, over: threading.Event) -> None:
    feed = EventFeed(run, attempt)
    logger: Logger | None = None
    state = "interrupted"
    while True:
        last = over.wait(POLL_SECONDS) or over.is_set()
        events = feed.poll()
        if feed.begun and logger is None:
            logger = make_logger(which, run)
        for event in events:
            assert logger is not None
            _tell(logger, event)
            if event.kind == "state":
                state = str(event.values["state"])
        if logger is not None:
            logger.flush()
        if last:
            break
    if logger is not None:
        logger.end("interrupted" if state == "running" else state, _summary(run))


def make_logger(which: str, run: RunFolder) -> Logger:
    """Begin with a tracker, or go on with it where it was told of the run before."""
    if which == "wandb":
        from tunebook.workflows.report_wandb import WandbLogger

        recipe = read_own_yaml(run, run.resolved_yaml).get("recipe")
        refuse_to_write_through_links(run.book, run.path / "wandb")
        refuse_to_write_through_links(run.book, run.path / ".wandb")  # as older ones call it
        config = recipe if isinstance(recipe, dict) else {}
        return WandbLogger(run.path, run.name, run.wandb_json, config)
    from tunebook.workflows.report_tensorboard import TensorBoardLogger

    text = read_regular_text(run.resolved_yaml).partition("\nenvironment:")[0]
    return TensorBoardLogger(make_folder(run.book, run.tensorboard), text)


def _tell(logger: Logger, event: FedEvent) -> None:
    if event.step is None:
        return
    if event.kind == "step":
        logger.number("step", event.step, step_values(event), event.time)
    elif event.kind == "validation":
        logger.number("validation", event.step, validation_values(event), event.time)
    elif event.kind == "verdicts":
        logger.words("verdicts", event.step, verdict_words(event), event.time)


def _summary(run: RunFolder) -> Mapping[str, Any]:
    """Give what the run came to, by the names that `tunebook runs --json` has for it."""
    found = measure(run).summary
    names = ("step", "train_loss", "val_loss", "base_val_loss", "best_val_loss", "best_step",
             "perplexity", "seconds", "peak_memory_bytes", "device")  # fmt: skip
    known = {name: getattr(found, name) for name in names}
    return {k: v for k, v in known.items() if v is not None} | {"verdicts": list(found.verdicts)}


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
