"""What the checks of tokens say of real data that nothing is wrong with, and what they show."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunebook.plan.checks import (
    answer_in_prompt,
    eos_never_trained,
    illegal_label,
    input_equals_output,
    literal_special_token,
    padding_in_loss,
    padding_waste,
    prompt_variant,
    split_leak,
    token_id_out_of_range,
)
from tunebook.plan.devices import Device
from tunebook.plan.subject import Subject

CHECKS = (
    answer_in_prompt,
    eos_never_trained,
    illegal_label,
    input_equals_output,
    literal_special_token,
    padding_in_loss,
    padding_waste,
    prompt_variant,
    split_leak,
    token_id_out_of_range,
)
MakeSubject = Callable[..., Subject]


@pytest.fixture
def subject_of(tmp_path: Path) -> MakeSubject:
    """Give a function that prepares a source for the embedded model, with its first batches."""
    from tunebook.data.prepare import prepare
    from tunebook.models.find import find_model
    from tunebook.models.tokenizer import load_tokenizer
    from tunebook.recipe.tree import Recipe
    from tunebook.step.horizon import batches_of_step, plan_horizon

    def make(source: dict[str, Any], **changes: Any) -> Subject:
        model = "tunebook/tiny"
        values = {
            "name": "healthy",
            "model": model,
            "data": [source],
            "max_seq_len": 256,
            **changes,
        }
        recipe = Recipe(**{"validation": {"fraction": 0.1}, "overlong": "cut", **values})
        codec = load_tokenizer(model)
        prepared = prepare(recipe, codec, tmp_path / "cache", lambda _text: None)
        horizon = plan_horizon(recipe, prepared.train)
        return Subject(
            recipe=recipe,
            config=json.loads((find_model(model) / "config.json").read_text()),
            device=Device("CPU", "cpu", None, None, True, False, {}, True),
            precision="fp32",
            codec=codec,
            prepared=prepared,
            horizon=horizon,
            batches=tuple(batches_of_step(prepared.train, horizon, 1)),
        )

    return make


@pytest.mark.parametrize(
    ("source", "changes", "known"),
    [
        ({"path": "instruct/llms-from-scratch-1100.json"}, {}, []),
        # The set has many quotes twice, under different keywords.
        ({"path": "quotes/keyword-quotes.txt"}, {}, ["split-leak"]),
        ({"path": "text/tinystories-sample.txt.gz", "document": "separator"}, {"stage": "cpt"}, []),
        ({"path": "text/tinyshakespeare.txt.gz"}, {"stage": "cpt", "packing": True}, []),
        ({"path": "chat/taskmaster4-00.jsonl.gz"}, {}, []),
        ({"path": "physics/university-physics-qa.jsonl.gz"}, {"train_on": "all"}, []),
    ],
    ids=lambda value: Path(value["path"]).name.split(".")[0] if "path" in value else "",
)
def test_real_data_gives_no_finding_that_is_not_true(
    subject_of: MakeSubject,
    shared_data: Path,
    source: dict[str, Any],
    changes: dict[str, Any],
    known: list[str],
) -> None:
    changes = {"overlong": "split", **changes} if changes.get("stage") == "cpt" else changes
    subject = subject_of({**source, "path": str(shared_data / source["path"])}, **changes)
    found = [finding for check in CHECKS for finding in check.check(subject)]
    assert [(finding.name, finding.level) for finding in found] == [(n, "warn") for n in known]


def test_the_variants_of_prompts_are_listed_without_the_words_of_rows(
    subject_of: MakeSubject, shared_data: Path
) -> None:
    path = str(shared_data / "instruct/llms-from-scratch-1100.json")
    subject = subject_of({"path": path})
    first, second, *_ = prompt_variant.list_variants(subject)
    assert first.text.endswith("appropriately completes the request.\n\n### Instruction:\n…\n\n"
                               "### Response:\n")  # fmt: skip
    assert "### Input:\n…" in second.text
    assert first.rows > second.rows > 0


def test_the_tokenizer_is_described_with_its_trained_ends(
    subject_of: MakeSubject, shared_data: Path
) -> None:
    from tunebook.plan.tokenizer import describe_tokenizer

    subject = subject_of({"path": str(shared_data / "instruct/llms-from-scratch-1100.json")})
    found = describe_tokenizer(subject)
    assert found is not None
    assert (found.end_token, found.end_trained, found.template) == ("<|endoftext|>", 1, "alpaca")
