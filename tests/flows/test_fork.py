"""A run that goes on with something changed: refused by name, or made a run of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_train_flow import STEPS, start, tunebook, wait_for_step, weights, write_run

from tunebook.book.events import EventWriter, next_attempt, read_events
from tunebook.book.places import RunFolder, create_book
from tunebook.errors import ResumeRefused
from tunebook.recipe.load import read_resolved
from tunebook.workflows.fork import fork_run
from tunebook.workflows.train import load_recipe, start_run
from tunebook.workflows.training import run_to_end


def test_a_fork_whose_data_makes_fewer_steps_than_were_taken_never_finishes(
    book: Path, tiny_gpt2: Path
) -> None:
    plain = {"evaluate": {"prompts": [], "canary": 0}, "validation": {"fraction": 0.0}}
    path = write_run(book, "run_1", tiny_gpt2, **plain, train={"max_steps": 3})
    run = start_run(book, load_recipe(path, (), book))
    train_here(run)
    child, _ = fork_run(run, "child", ["train.max_tokens=50"])
    with pytest.raises(
        ResumeRefused, match=r"child stands at step 3, and its settings make \d steps"
    ):
        train_here(child)
    assert not child.final.exists()


def train_here(run: RunFolder) -> None:
    with EventWriter(run, next_attempt(run)) as events:
        run_to_end(run, events, lambda: None, lambda: None)


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
