"""Faults found by a reviewer, each held to its mending."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from test_train_flow import write_run

from tunebook.book.checkpoints import (
    list_checkpoints,
    newest_good_checkpoint,
    rotate_checkpoints,
    writing_checkpoint,
)
from tunebook.book.events import EventWriter, event_files
from tunebook.book.liveness import acquire_run
from tunebook.book.places import RunFolder, create_book
from tunebook.errors import BookError
from tunebook.workflows.train import load_recipe, start_run


@pytest.fixture
def book(tmp_path: Path) -> Path:
    return create_book(tmp_path / "book")


def test_a_run_that_is_being_started_cannot_be_started_again(book: Path, tmp_path: Path) -> None:
    loaded = load_recipe(write_run(book, "run_1", tmp_path), (), book)
    run = start_run(book, loaded)
    with acquire_run(run), EventWriter(run, 1) as events:
        events.write("state", {"state": "running", "step": 0})
        with pytest.raises(BookError, match="is being trained"):
            start_run(book, loaded)
        assert [path.stat().st_size > 0 for path in event_files(run)] == [True]


def test_rotation_after_a_resume_keeps_the_good_checkpoint(book: Path) -> None:
    from tunebook.workflows.training import _set_aside_damaged

    run = RunFolder(book, "run_1")
    for step in (60, 90):
        with writing_checkpoint(run, step) as folder:
            (folder / "weights").write_bytes(os.urandom(64))
    (run.checkpoints / "step-90" / "weights").write_bytes(b"x" * 64)
    good, bad = newest_good_checkpoint(run)
    assert good is not None
    assert (good.name, len(bad)) == ("step-60", 1)
    _set_aside_damaged(run, 60)
    with writing_checkpoint(run, 70) as folder:
        (folder / "weights").write_bytes(b"y")
    rotate_checkpoints(run, 1, set())
    assert [path.name for path in list_checkpoints(run)] == ["step-70"]
