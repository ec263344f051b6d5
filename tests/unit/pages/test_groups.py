from __future__ import annotations

from dataclasses import replace

from tunebook.pages.groups import difference, is_better
from tunebook.records import RunSummary

BASE = RunSummary("base", "finished", "m", "sft", "lora", train_loss=2.0, val_loss=2.0,
                  seconds=100.0, examples_hash="h", config={"data.0.path": "/a.txt"})  # fmt: skip
GOOD = replace(BASE, name="good", train_loss=1.0, val_loss=1.0, seconds=50.0)


def test_a_run_that_did_not_come_to_its_end_is_neither_better_nor_worse() -> None:
    assert is_better("seconds", GOOD, BASE) is True
    assert is_better("seconds", BASE, GOOD) is False
    for state in ("running", "failed", "paused"):
        changed = replace(GOOD, state=state)
        assert difference(changed, "seconds", BASE) == -50.0
        assert is_better("seconds", changed, BASE) is None
        assert is_better("val_loss", BASE, changed) is None


def test_training_losses_on_other_data_are_neither_better_nor_worse() -> None:
    assert is_better("train_loss", GOOD, BASE) is True
    other = replace(GOOD, config={"data.0.path": "/b.txt"})
    assert is_better("train_loss", other, BASE) is None
    assert is_better("val_loss", other, BASE) is True
