"""What replays of a run found out: `evaluations/replay-step-<n>.json`, one for each step."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import orjson

from tunebook.book.atomic import storage_errors, write_atomically
from tunebook.book.codec import dump_json, to_record
from tunebook.book.inside import read_inside, refuse_linked_run
from tunebook.book.places import RunFolder
from tunebook.book.writing import make_folder
from tunebook.trials import Replay


def write_replay(run: RunFolder, found: Replay) -> Replay:
    """Write down what a replay came to, in place of an earlier one of the same step.

    Raises BookError where the folder is behind a link.
    """
    refuse_linked_run(run)
    time = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    done = replace(found, finished=time)
    path = run.evaluations / f"replay-step-{found.step}.json"
    with storage_errors(f"write {path}", run.path):
        make_folder(run.book, run.evaluations)
        write_atomically(path, dump_json(done, indent=True))
    return done


def read_replays(run: RunFolder) -> list[Replay]:
    """Read the replays of a run in order of steps; broken files are left out."""
    found = []
    for path in run.evaluations.glob("replay-step-*.json"):
        try:
            found.append(to_record(Replay, orjson.loads(read_inside(run.book, path))))
        except (OSError, orjson.JSONDecodeError, KeyError, TypeError, ValueError):
            continue
    return sorted(found, key=lambda one: one.step)
