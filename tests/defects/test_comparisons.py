"""Adapters of unequal scale, and losses of other examples, held against each other (10, 11)."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_parent_mismatch import train_here

from tunebook.book.places import RunFolder
from tunebook.workflows import evaluate as evaluate_workflow

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def train(
    write_data: Callable[..., Path], write_run: Callable[..., Path]
) -> Callable[..., RunFolder]:
    """Give a function that trains a short LoRA run."""
    rows = [{"instruction": f"Greet friend {n}.", "output": f"Hello, {n}."} for n in range(60)]
    data = write_data("friends.json", rows)
    short = {
        "method": "lora",
        "validation": {"fraction": 0.3},
        "evaluate": {"canary": 0, "prompts": []},
        "train": {"max_steps": 1},
    }
    return lambda name, **lora: train_here(write_run(data, name, lora=lora, **short))


@pytest.fixture
def evaluate(tunebook: Run) -> Callable[[str], None]:
    """Give a function that scores what a run held out."""

    def run(name: str) -> None:
        code, _, err = tunebook("evaluate", name, "--weights", "final")
        assert code == 0, err

    return run


@pytest.mark.defect(10, "adapter-scale", "compare")
def test_adapters_of_unequal_scale_are_named_when_ranks_are_compared(
    train: Callable[..., RunFolder], evaluate: Callable[[str], None], tunebook: Run
) -> None:
    # The layer of the notebook multiplied by alpha where others divide it by the rank.
    for name, rank, alpha in (("small", 2, 2), ("large", 4, 4), ("by_alpha", 4, 4 * 4)):
        train(name, rank=rank, alpha=alpha)
        evaluate(name)
    code, out, err = tunebook("compare", "small", "large", "--json")
    assert (code, json.loads(out)["findings"], "adapter-scale" in err) == (0, [], False)
    code, out, err = tunebook("compare", "small", "by_alpha", "--json")
    (found,) = json.loads(out)["findings"]
    assert (code, found["name"], found["level"]) == (0, "adapter-scale", "warn")
    assert found["evidence"]["by_alpha"] == {"rank": 4, "scale": 4}
    assert "adapter-scale: " in err
    assert "small rank 2 scaled by 1, by_alpha rank 4 scaled by 4" in err


@pytest.mark.defect(11, "different-validation-set", "compare")
def test_losses_of_other_examples_are_not_compared(
    train: Callable[..., RunFolder],
    evaluate: Callable[[str], None],
    tunebook: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train("whole", rank=2)
    train("cut", rank=2)
    evaluate("whole")
    real = evaluate_workflow.prepare

    def first_batches(*args: Any, **named: Any) -> Any:
        """Hold out what the first batches have, as an `eval_iter` of another batch size does."""
        prepared = real(*args, **named)
        held_out = prepared.validation.only(range(8))
        return replace(prepared, validation=held_out, validation_hash=held_out.hash())

    with monkeypatch.context() as patch:
        patch.setattr(evaluate_workflow, "prepare", first_batches)
        evaluate("cut")
    code, out, err = tunebook("compare", "whole", "cut")
    assert (code, out) == (2, "")
    assert "different-validation-set: whole and cut were scored on different examples" in err
    assert "8 are shared" in err
    assert "`tunebook compare whole cut --shared-only`" in err
    code, out, err = tunebook("compare", "whole", "cut", "--shared-only", "--json")
    assert (code, json.loads(out)["n"]) == (0, 8)
    evaluate("cut")
    code, out, err = tunebook("compare", "whole", "cut", "--json")
    assert (code, json.loads(out)["verdict"]) == (0, "equivalent")
