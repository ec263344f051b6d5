"""A run that goes on with something changed: refused by name, or made a run of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_train_flow import STEPS, start, tunebook, wait_for_step, weights, write_run

from tunebook.book.events import read_events
from tunebook.book.places import RunFolder, create_book
from tunebook.recipe.load import read_resolved


@pytest.fixture
def book(tmp_path: Path) -> Path:
    return create_book(tmp_path / "book")


def test_a_changed_run_is_refused_and_its_fork_goes_on_where_it_was(
    book: Path, tiny_gpt2: Path
) -> None:
    assert tunebook(book, "train", write_run(book, "whole", tiny_gpt2)).returncode == 0
    path = write_run(book, "parted", tiny_gpt2)
    process = start(book, "train", path)
    run = RunFolder(book, "parted")
    wait_for_step(run, 6, process)
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 143

    write_run(book, "parted", tiny_gpt2, train={"learning_rate": 2e-3})
    refused = tunebook(book, "resume", "parted")
    assert refused.returncode == 2
    assert "train.learning_rate: 0.001 -> 0.002; put that back, or" in refused.stderr
    write_run(book, "parted", tiny_gpt2)
    rows = (book / "rows.json").read_text()
    (book / "rows.json").write_text(rows.replace("blue", "pink"))
    refused = tunebook(book, "resume", "parted")
    assert refused.returncode == 2, refused.stderr
    assert "its data changed since" in refused.stderr
    assert "Traceback" not in refused.stderr
    (book / "rows.json").write_text(rows)
    assert read_events(run).last_state == "paused"

    same = tunebook(book, "resume", "parted", "--fork", "same")
    assert same.returncode == 0, same.stderr
    assert weights(RunFolder(book, "same")) == weights(RunFolder(book, "whole"))
    forked = RunFolder(book, "same")
    begun: dict[str, int] = read_resolved(forked.resolved_yaml.read_text())[1]["resumed_from"]  # type: ignore[assignment]
    events = read_events(forked)
    assert [s.step for s in events.steps] == list(range(begun["step"] + 1, STEPS + 1))
    assert events.validations[0].step == begun["step"]

    other = tunebook(book, "resume", "parted", "--fork", "other", "train.learning_rate=2e-3")
    assert other.returncode == 0, other.stderr
    assert "changed since parted: train.learning_rate: 0.001 -> 0.002" in other.stderr
    assert weights(RunFolder(book, "other")) != weights(RunFolder(book, "whole"))
    assert tunebook(book, "resume", "parted").returncode == 0
    assert weights(run) == weights(RunFolder(book, "whole"))
    table = json.loads(tunebook(book, "runs", "--json").stdout)
    assert {r["name"]: r["parents"] for r in table if r["name"] in ("same", "parted")} == {
        "same": ["parted"],
        "parted": [],
    }
