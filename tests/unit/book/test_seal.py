from __future__ import annotations

import json
from pathlib import Path

import pytest

from made_runs import make_step
from tunebook.book.events import EventWriter
from tunebook.book.places import RunFolder
from tunebook.book.seal import read_seal, seal
from tunebook.errors import BookError


@pytest.fixture
def run(book: Path) -> RunFolder:
    folder = RunFolder(book, "r")
    folder.path.mkdir()
    return folder


def test_a_seal_is_read_back_intact_and_never_rewritten(run: RunFolder) -> None:
    assert read_seal(run) is None
    seal(run, "why", ["val_loss < 2"])
    before = run.seal_json.read_bytes()
    seal(run, "because", ["val_loss < 9"])
    assert run.seal_json.read_bytes() == before
    sealed = read_seal(run)
    assert sealed is not None
    assert (sealed.hypothesis, sealed.predictions, sealed.intact) == (
        "why",
        ("val_loss < 2",),
        True,
    )


@pytest.mark.parametrize("key", ["hypothesis", "predictions", "sealed_at", "sha256"])
def test_any_changed_value_breaks_the_seal(run: RunFolder, key: str) -> None:
    seal(run, "why", ["val_loss < 2"])
    whole = json.loads(run.seal_json.read_text())
    whole[key] = ["val_loss < 3"] if key == "predictions" else "x"
    run.seal_json.write_text(json.dumps(whole))
    sealed = read_seal(run)
    assert sealed is not None
    assert not sealed.intact


def test_a_seal_that_does_not_parse_is_broken(run: RunFolder) -> None:
    run.seal_json.write_text("{")
    sealed = read_seal(run)
    assert sealed is not None
    assert not sealed.intact


def test_after_a_step_it_is_too_late_to_seal(run: RunFolder) -> None:
    with EventWriter(run, 1) as events:
        events.write("step", make_step(1))
    with pytest.raises(BookError, match="can no longer be sealed"):
        seal(run, "why", [])
