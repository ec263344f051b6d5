"""Where a sweep lies in its book, and which trials it has begun.

`sweeps/NAME/` holds the file as it was given, a line per trial before that trial's run is made, and
what came of it. The runs themselves are ordinary ones.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from tunebook.book.atomic import storage_errors
from tunebook.book.places import RunFolder
from tunebook.book.writing import open_to_write
from tunebook.errors import BookError
from tunebook.regular import read_regular


class SweepFolder:
    """The paths of one sweep; making one touches nothing on disk."""

    __slots__ = ("book", "name", "path")

    def __init__(self, book: Path, name: str) -> None:
        self.book, self.name = book, name
        self.path = book / "sweeps" / name

    @property
    def sweep_yaml(self) -> Path:
        """The sweep file as its author wrote it."""
        return self.path / "sweep.yaml"

    @property
    def trials_jsonl(self) -> Path:
        """A line per trial, written before its run is made."""
        return self.path / "trials.jsonl"

    @property
    def base_json(self) -> Path:
        """Every value of the run file that is varied, as it was when the sweep began."""
        return self.path / "base.json"

    @property
    def study(self) -> Path:
        """What optuna keeps of its proposals."""
        return self.path / "study.log"

    @property
    def result_md(self) -> Path:
        """The table of what came of it."""
        return self.path / "result.md"

    @property
    def best_yaml(self) -> Path:
        """A run file with the best settings."""
        return self.path / "best.yaml"

    @property
    def lock(self) -> Path:
        """Held by the one process that begins trials."""
        return self.path / ".lock"


@dataclass(frozen=True, slots=True)
class SweepTrial:
    """One run of a sweep. `point` counts combinations from 1, `settings` is one, with a seed.

    `proposal` is the number under which the combination was proposed, None for a grid.
    """

    name: str
    point: int
    seed: int | None
    settings: Mapping[str, Any]
    proposal: int | None = None

    def run(self, book: Path) -> RunFolder:
        """Give the folder of its run."""
        return RunFolder(book, self.name)


def read_trials(folder: SweepFolder) -> list[SweepTrial]:
    """Read the trials that were begun, in their order; BookError for a line that is none."""
    try:
        lines = read_regular(folder.trials_jsonl).split(b"\n")
    except FileNotFoundError:
        return []
    found = []
    # What stands behind the last line end was cut off while it was written: its run was not made.
    for number, line in enumerate(lines[:-1], start=1):
        try:
            trial = SweepTrial(**orjson.loads(line))
            trial.run(folder.book)  # BookError for what is no name of a run
            if not isinstance(trial.settings, dict) or not isinstance(trial.point, int):
                raise TypeError
            found.append(trial)
        except (orjson.JSONDecodeError, TypeError, BookError):
            raise BookError(
                f"{folder.trials_jsonl}:{number}: this line is no trial; put back what stood there"
            ) from None
    return found


def add_trial(folder: SweepFolder, trial: SweepTrial) -> None:
    """Write a trial down before its run is made, so that it is made once."""
    with storage_errors(f"write {folder.trials_jsonl}", folder.path):
        open_to_write(folder.book, folder.trials_jsonl, "append").close()  # it is there now
        with open_to_write(folder.book, folder.trials_jsonl, "change") as file:
            file.truncate(file.read().rfind(b"\n") + 1)
            file.seek(0, os.SEEK_END)
            file.write(orjson.dumps(asdict(trial)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
