"""What the checks of a plan look at, made of a small source and the embedded model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunebook.plan.devices import Device
from tunebook.plan.subject import Subject

MakeSubject = Callable[..., Subject]


@pytest.fixture
def subject_of(tmp_path: Path) -> MakeSubject:
    """Give a function that prepares a source for the embedded model, with its first batches."""
    from tunebook.data.prepare import prepare
    from tunebook.models.find import find_model
    from tunebook.models.tokenizer import load_tokenizer
    from tunebook.plan.witness import read_witnesses
    from tunebook.recipe.tree import Recipe
    from tunebook.step.horizon import batches_of_step, plan_horizon

    def make(source: dict[str, Any], **changes: Any) -> Subject:
        values = {
            "name": "healthy",
            "model": "tunebook/tiny",
            "data": [source],
            "max_seq_len": 256,
            **changes,
        }
        recipe = Recipe(**{"validation": {"fraction": 0.1}, "overlong": "cut", **values})
        codec = load_tokenizer(recipe.model)
        prepared = prepare(recipe, codec, tmp_path / "cache", lambda _text: None)
        horizon = plan_horizon(recipe, prepared.train)
        batches = tuple(batches_of_step(prepared.train, horizon, 1))
        wanted = [i for batch in batches for i in batch.example_ids]
        return Subject(
            recipe=recipe,
            config=json.loads((find_model(recipe.model) / "config.json").read_text()),
            device=Device("CPU", "cpu", None, None, True, False, {}, True),
            precision="fp32",
            codec=codec,
            prepared=prepared,
            horizon=horizon,
            batches=batches,
            witnesses=read_witnesses(prepared, recipe, wanted),
        )

    return make
