"""A file of a stranger's book may be a pipe that nobody writes to: no reading waits for it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from made_runs import make_run
from tunebook.book.events import event_files
from tunebook.cli.main import main

FILES = (
    "notebook.md", "run.yaml", "resolved.yaml", "seal.json", "plan.json", "data.json",
    "heartbeat.json", "release.json", "events/x.jsonl", "evaluations/loss-x.json", "curve.svg",
)  # fmt: skip


@pytest.mark.timeout(30)
@pytest.mark.parametrize("name", FILES)
def test_a_book_with_a_pipe_is_read(
    book: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(book)
    run = make_run(book, "a")
    path = run.path / name
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    assert path not in event_files(run)
    for command in (["runs"], ["show", "a"], ["notebook", "build"]):
        assert main(command) in (0, 1, 2)
        assert "bug in tunebook" not in capsys.readouterr().err
