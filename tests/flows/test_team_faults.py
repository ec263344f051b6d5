"""What goes wrong inside of a run on two devices ends it at once, in a sentence that names it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from test_train_flow import tunebook, write_run

from tunebook.book.checkpoints import list_checkpoints, newest_good_checkpoint
from tunebook.book.events import read_events
from tunebook.book.places import RunFolder, create_book
from tunebook.book.plans import read_plan

# Read by each rank as it starts, before any code of the run.
FAULTS = {
    "nan": """
from tunebook.step import update
real = update.token_losses
def token_losses(loaded, scorer, batch):
    found = real(loaded, scorer, batch)
    return type(found)(found.loss_sum * float("nan"), found.losses_M * float("nan"))
update.token_losses = token_losses
""",
    "memory": """
import torch
from tunebook.step import update
real, calls = update.token_losses, []
def token_losses(loaded, scorer, batch):
    calls.append(1)
    if rank == "1" and len(calls) == 2:
        raise torch.OutOfMemoryError("out of memory: a device of 0 bytes")
    return real(loaded, scorer, batch)
update.token_losses = token_losses
""",
    "disk": """
import errno
from tunebook.train import state
real = state.write_shards
def write_shards(folder, tensors, team):
    if rank == "0" and ".tmp-2-" in str(folder):
        raise OSError(errno.ENOSPC, "No space left on device", str(folder))
    real(folder, tensors, team)
state.write_shards = write_shards
""",
    "tokens": """
from tunebook.workflows import before, follow
if rank == "1":
    follow.tokens_of = lambda run: []
""",
}
ENDS = {
    "nan": ("stopped", "2 steps had a loss or gradient that was not finite, the limit of"),
    "memory": ("paused", "a micro-batch of 2 rows"),
    "disk": ("paused", "free space and `tunebook resume run_1`"),
    "tokens": ("failed", "rank 1 of 2: rank 1 reads other tokens than rank 0"),
}


@pytest.mark.parametrize(
    "fault",
    ["nan", *[pytest.param(f, marks=pytest.mark.slow) for f in ("memory", "disk", "tokens")]],
)
def test_a_fault_in_a_team_ends_it_at_once_and_is_named(
    fault: str, tmp_path: Path, tiny_gpt2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = create_book(tmp_path / "book")
    begin = 'import os\nrank = os.environ.get("RANK")\nif rank is not None:\n'
    code = begin + _indented(FAULTS[fault])
    (tmp_path / "sitecustomize.py").write_text(code, encoding="utf-8")
    path = [str(tmp_path), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, path)))
    run_file = write_run(
        book,
        "run_1",
        tiny_gpt2,
        devices=2,
        add_tokens=["<move>"],
        train={"max_steps": 4, "micro_batch_size": 2, "non_finite_limit": 2},
        evaluate={"every": 4, "max_new_tokens": 1, "canary": 0},
        checkpoint={"every": 1},
    )
    started = time.monotonic()
    done = tunebook(book, "train", run_file, timeout=200)
    assert done.returncode not in (0, 2), done.stderr
    run = RunFolder(book, "run_1")
    state, words = ENDS[fault]
    assert run.events.exists(), done.stderr
    last = read_events(run).states[-1]
    assert (last["state"], words in last["reason"]) == (state, True), last
    assert time.monotonic() - started < 150
    if fault == "memory":
        assert "rank 1 of 2" in last["reason"]
        assert "rows-" in last["reason"] or "rows#" in last["reason"]
        assert "with train.micro_batch_size: 1, " in last["reason"]
        (found,) = read_plan(run)["out_of_memory"]
        assert (found["rank"], found["micro_batch_size"]) == (1, 2)
        assert found["examples"][0] in last["reason"]
        assert min(found["reached_bytes"], found["planned_peak_bytes"]) > 0
    if fault in ("memory", "disk"):  # what was saved before is whole
        checkpoint, bad = newest_good_checkpoint(run)
        assert checkpoint is not None
        assert not bad
        assert checkpoint == list_checkpoints(run)[-1]


def _indented(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.strip().splitlines())
