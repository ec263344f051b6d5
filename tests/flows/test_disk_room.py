"""A volume that fills up while a run trains: asked before every save, before a byte is written."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from tunebook.book.checkpoints import list_checkpoints, verify_checkpoint
from tunebook.book.events import EventWriter, read_events
from tunebook.book.places import RunFolder
from tunebook.errors import PlanRefused, StorageError
from tunebook.workflows.train import load_recipe, start_run
from tunebook.workflows.training import run_to_end

Usage = namedtuple("Usage", "total used free")


def go_on(run: RunFolder, attempt: int) -> None:
    events = EventWriter(run, attempt)
    try:
        run_to_end(run, events, lambda: None, lambda: None)
    finally:
        events.close()


def test_a_run_pauses_before_a_checkpoint_without_room_and_goes_on_from_the_one_before(
    book: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"instruction": f"Say {n}", "output": f"That is {n}."} for n in range(30)]
    (book / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    values = {
        "name": "run_1",
        "model": str(tiny_model),
        "data": [{"path": str(book / "rows.json")}],
        "template": "alpaca",
        "validation": {"fraction": 0.0},
        "evaluate": {"prompts": []},
        "train": {"max_steps": 6, "effective_batch_size": 2},
        "checkpoint": {"every": 2},
        "accept": ["random-base"],
    }
    run = start_run(book, load_recipe(values, (), book))
    room = shutil.disk_usage

    def filled_up(path: Path) -> Usage:
        full = len(list_checkpoints(run)) == 1
        return Usage(10**9, 10**9, 1000) if full else Usage(*room(path))

    monkeypatch.setattr(shutil, "disk_usage", filled_up)
    with pytest.raises(StorageError, match=r"step 4's checkpoint needs .*; step-2 is whole"):
        go_on(run, 1)
    assert [path.name for path in list_checkpoints(run)] == ["step-2"]
    verify_checkpoint(run.checkpoints / "step-2")

    monkeypatch.setattr(shutil, "disk_usage", room)
    go_on(run, 2)
    assert read_events(run).states[-1]["state"] == "finished"
    assert [step.step for step in read_events(run).steps] == [1, 2, 3, 4, 5, 6]


def test_a_finding_that_was_accepted_is_told_as_that_and_a_refusal_is_told_once(
    book: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"instruction": f"Say {n}", "output": f"That is {n}."} for n in range(30)]
    (book / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    monkeypatch.setattr("tunebook.plan.disk.free_bytes", lambda _path: 0)
    for name, accept in (("taken", ["random-base", "disk-too-small"]), ("left", ["random-base"])):
        values = {
            "name": name,
            "model": str(tiny_model),
            "data": [{"path": str(book / "rows.json")}],
            "template": "alpaca",
            "evaluate": {"prompts": []},
            "train": {"max_steps": 1, "effective_batch_size": 2},
            "accept": accept,
        }
        run = start_run(book, load_recipe(values, (), book))
        if name == "taken":
            go_on(run, 1)
        else:
            with pytest.raises(PlanRefused, match="disk-too-small"):
                go_on(run, 1)
        told = [note for note in read_events(run).notes if "disk-too-small" in note]
        assert [text.split(":")[0] for text in told] == (["accepted"] if name == "taken" else [])
