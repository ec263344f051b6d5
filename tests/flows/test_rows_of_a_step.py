"""However rows are put together for the device, a step tells of them in their order."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tunebook.book.events import EventWriter, read_events
from tunebook.data.prepare import prepare
from tunebook.models.tokenizer import load_tokenizer
from tunebook.step.horizon import batches_of_step, plan_horizon
from tunebook.workflows.train import load_recipe, start_run
from tunebook.workflows.training import run_to_end


@pytest.mark.parametrize("packing", [False, True])
def test_losses_and_lengths_of_a_step_are_those_of_its_rows(
    book: Path, tiny_model: Path, packing: bool
) -> None:
    rows = [{"instruction": f"Say {n}.", "output": "so " * (1 + n * 5 % 13)} for n in range(60)]
    (book / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    values = {
        "name": "run_1",
        "model": str(tiny_model),
        "data": [{"path": str(book / "rows.json")}],
        "template": "alpaca",
        "packing": packing,
        "max_seq_len": 512,
        "validation": {"fraction": 0},
        "evaluate": {"prompts": [], "canary": 0},
        "train": {"max_steps": 3, "effective_batch_size": 6, "micro_batch_size": 2},
        "accept": ["random-base"],
    }
    loaded = load_recipe(values, (), book)
    run, recipe = start_run(book, loaded), loaded.recipe
    with EventWriter(run, 1) as events:
        run_to_end(run, events, lambda: None, lambda: None)
    codec = load_tokenizer(str(tiny_model))
    data = prepare(recipe, codec, run.cache_dir, lambda _: None).train
    horizon = plan_horizon(recipe, data)
    dealt = False
    for step in read_events(run).steps:
        examples = [e for index in horizon.rows_of_step(step.step) for e in data.row(index)]
        assert [found.id for found in step.examples] == [e.tokens.id for e in examples]
        assert [found.target_tokens for found in step.examples] == [
            sum(e.tokens.target) for e in examples
        ]
        assert list(step.lengths) == [len(e.tokens.ids) for e in examples]
        batches = batches_of_step(data, horizon, step.step)
        dealt |= [i for b in batches for i in b.example_ids] != [e.tokens.id for e in examples]
    assert dealt or packing
