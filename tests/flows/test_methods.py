"""Runs of method qlora and relora, in this process: what they leave behind, and how they go on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.numpy import load_file
from test_train_flow import history, weights, write_run
from transformers import AutoModelForCausalLM

from tunebook.book.events import EventWriter, next_attempt, read_events
from tunebook.book.places import RunFolder
from tunebook.errors import RunEnded
from tunebook.workflows.train import load_recipe, start_run
from tunebook.workflows.training import run_to_end

SHORT = {
    "train": {"max_steps": 8, "micro_batch_size": 4},
    "evaluate": {"every": 4, "canary": 0, "prompts": ["red"], "max_new_tokens": 4},
    "checkpoint": {"every": 4},
}


def train(run: RunFolder, pause_after: int | None = None) -> None:
    """Train a run to its end, or until it pauses after a step."""

    def stop_code() -> int | None:
        steps = [s.step for s in read_events(run).steps] if pause_after else []
        return 143 if pause_after in steps else None

    with EventWriter(run, next_attempt(run)) as events:
        run_to_end(run, events, stop_code, lambda: None)


def start(book: Path, name: str, model: Path, **changes: object) -> RunFolder:
    return start_run(book, load_recipe(write_run(book, name, model, **changes), (), book))


@pytest.mark.parametrize("method", ["qlora", "relora"])
def test_a_run_that_was_resumed_ends_in_the_same_bits(
    book: Path, tiny_gpt2: Path, method: str
) -> None:
    if method == "qlora":
        pytest.importorskip("bitsandbytes", reason="the extra `quant` is not installed")
    relora = {"merge_every": 3, "warmup_steps": 2}
    changes = {**SHORT, "method": method, "relora": relora}
    whole = start(book, "whole", tiny_gpt2, **changes)
    train(whole)
    steps = read_events(whole).steps
    assert all(0 < (s.changed_fraction or 0) <= 1 for s in steps[:-1])
    assert read_events(whole).validations[-1].loss < read_events(whole).validations[0].loss
    parted = start(book, "parted", tiny_gpt2, **changes)
    for pause in (3, 4):  # at a merge of relora, and right after it
        with pytest.raises(RunEnded):
            train(parted, pause_after=pause)
    train(parted)
    assert weights(parted) == weights(whole)
    assert history(parted) == history(whole)


def test_a_child_of_a_4_bit_run_goes_on_with_its_adapter(book: Path, tiny_model: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="the extra `quant` is not installed")
    first = start(book, "first", tiny_model, **SHORT, method="qlora")
    train(first)
    child = start(book, "child", Path("run:first"), **SHORT, method="qlora")
    train(child)
    before, after = (read_events(run).validations for run in (first, child))
    assert after[0].loss == pytest.approx(before[-1].loss, abs=1e-6)
    assert json.loads(child.plan_json.read_text())["probe"]["loss"] > 0
    names = load_file(child.final / "adapter_model.safetensors")
    assert names.keys() == load_file(first.final / "adapter_model.safetensors").keys()


def test_a_merging_run_leaves_plain_models(book: Path, tiny_model: Path) -> None:
    relora = {"merge_every": 3, "warmup_steps": 2}
    first = start(book, "first", tiny_model, **SHORT, method="relora", relora=relora)
    train(first)
    events = read_events(first)
    rates = [step.learning_rate for step in events.steps]
    assert rates[3] < rates[2]
    assert rates[3] < rates[4]
    assert [verdict.kind for verdict in events.verdicts] == ["random_base"]
    assert events.validations[-1].loss == min(v.loss for v in events.validations)
    ids_BT = torch.tensor([[5, 9, 30, 12, 44, 7]])
    with torch.no_grad():
        final, best = (
            AutoModelForCausalLM.from_pretrained(folder)(input_ids=ids_BT).logits
            for folder in (first.final, first.best)
        )
    torch.testing.assert_close(final, best, atol=1e-5, rtol=0)
    child = start(book, "child", Path("run:first/best"), **SHORT, method="full")
    assert "adapter" not in child.resolved_yaml.read_text()
