"""What the checks of tokens say of real data that nothing is wrong with, and what they show."""

from __future__ import annotations

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


def test_the_tokenizer_is_described_with_its_trained_ends(
    subject_of: MakeSubject, shared_data: Path
) -> None:
    from tunebook.plan.tokenizer import describe_tokenizer

    subject = subject_of({"path": str(shared_data / "instruct/llms-from-scratch-1100.json")})
    found = describe_tokenizer(subject)
    assert found is not None
    assert (found.end_token, found.end_trained, found.template) == ("<|endoftext|>", 1, "alpaca")
