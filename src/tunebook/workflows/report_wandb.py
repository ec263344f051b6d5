"""Send a run to Weights & Biases: online, or with WANDB_MODE=offline into `wandb/` of its folder.

What was sent cannot be taken back, so that the run's folder remembers how far that is, and a
resumed run sends only what comes after it. It is written down before it is sent: a process that is
killed in between leaves a gap of a moment, and no point twice.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from tunebook.book.atomic import write_atomically
from tunebook.book.codec import dump_json
from tunebook.regular import read_regular

_PROJECT = "tunebook"


class WandbLogger:
    """One run of W&B, gone on with by its id; see `report_values.Logger`."""

    def __init__(self, folder: Path, name: str, memory: Path, config: Mapping[str, Any]) -> None:
        import wandb

        self._memory = memory
        self._sent: dict[str, Any] = {
            "id": secrets.token_hex(4),
            "last": {},
            "rows": 0,
            **_read(memory),
        }
        self._waiting: list[dict[str, float]] = []
        self._remember()
        # The book has the output, the code's release and the machine; none of it is sent.
        settings = wandb.Settings(
            console="off",
            disable_git=True,
            save_code=False,
            silent=True,
            x_disable_meta=True,
            x_disable_stats=True,
            x_save_requirements=False,
        )
        self._run = wandb.init(
            dir=str(folder),
            id=self._sent["id"],
            name=name,
            # A project of the environment counts for more than the default.
            project=None if os.environ.get("WANDB_PROJECT") else _PROJECT,
            config=dict(config),
            resume="allow",
            settings=settings,
        )
        # Against the steps of the run, not against the rows that were sent.
        self._run.define_metric("step", hidden=True)
        self._run.define_metric("*", step_metric="step")

    def number(self, kind: str, step: int, values: Mapping[str, float], time: float) -> None:
        """Keep the numbers of a step to be sent, unless they were."""
        if step > self._sent["last"].get(kind, -1):
            self._sent["last"][kind] = step
            self._sent["rows"] += 1
            self._waiting.append({"step": step, **values})

    def words(self, name: str, step: int, text: str, time: float) -> None:
        """Put words into the summary of the run."""
        self._run.summary[name] = text

    def flush(self) -> None:
        """Hand what waits to W&B's own process, once it is written down as sent."""
        if self._waiting:
            self._remember()
        # Its count of rows, which has to rise over all processes of the run.
        first = self._sent["rows"] - len(self._waiting)
        for row, values in enumerate(self._waiting, first):
            self._run.log(values, step=row)
        self._waiting = []

    def end(self, state: str, summary: Mapping[str, object]) -> None:
        """Put what the run came to into its summary, and wait until all is sent."""
        self.flush()
        for name, value in {"state": state, **summary}.items():
            self._run.summary[f"tunebook/{name}"] = value
        self._run.finish(exit_code=0 if state == "finished" else 1)

    def _remember(self) -> None:
        write_atomically(self._memory, dump_json(self._sent))


def _read(memory: Path) -> dict[str, Any]:
    try:
        found = orjson.loads(read_regular(memory))
    except (OSError, orjson.JSONDecodeError):
        return {}
    return found if isinstance(found, dict) and isinstance(found.get("last"), dict) else {}
