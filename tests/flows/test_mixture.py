"""A run on several sources: what was planned of each, what was trained, and how each fared."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_train_flow import tunebook, write_run

from tunebook.book.events import read_events
from tunebook.book.places import RunFolder, create_book


def test_every_source_is_trained_as_planned_and_has_its_own_losses(
    tmp_path: Path, tiny_model: Path
) -> None:
    book = create_book(tmp_path / "book")
    lines = "".join(f"colour{i % 7}: red green {i}\n" for i in range(40))
    (book / "sayings.txt").write_text(lines, encoding="utf-8")
    data = [
        {"path": str(book / "rows.json"), "weight": 2},
        {"path": str(book / "sayings.txt"), "sample": 20, "weight": 0.5},
    ]
    train = {"max_steps": None, "epochs": 1, "effective_batch_size": 8}
    path = write_run(book, "mixed", tiny_model, data=data, train=train, evaluate={"canary": 0})
    done = tunebook(book, "train", path)
    assert done.returncode == 0, done.stderr

    run = RunFolder(book, "mixed")
    found = json.loads(run.data_json.read_text(encoding="utf-8"))
    planned = {share["name"]: share for share in found["mixture"]}
    trained = {share["name"]: share for share in found["trained"]}
    assert planned["rows"]["examples"] == 2 * found["sources"][0]["train_rows"]
    assert planned["sayings"]["examples"] == 10
    for name, share in planned.items():
        assert trained[name]["examples"] == share["examples"]
    assert trained["rows"]["target_tokens"] == planned["rows"]["target_tokens"]
    assert sum(s["share_of"]["tokens"] for s in found["trained"]) == pytest.approx(1)

    last = read_events(run).validations[-1]
    assert set(last.per_source) == set(last.per_source_target_tokens) == {"rows", "sayings"}
    total = sum(last.per_source[n] * k for n, k in last.per_source_target_tokens.items())
    assert total == pytest.approx(last.loss_sum)
    page = run.notebook_md.read_text(encoding="utf-8")
    assert "## By source" in page
    assert "| sayings |" in page
