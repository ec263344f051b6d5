"""What the checks of rows and their tokens take for a defect, and what they do not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tunebook.models.find import find_model
from tunebook.plan.checks import padding_in_loss, row_count_mismatch, token_id_out_of_range
from tunebook.plan.rows import batch_rows
from tunebook.plan.subject import Subject
from tunebook.records import Finding

Check = Callable[[Subject], Any]
SubjectOf = Callable[..., Subject]


@pytest.fixture
def subject_with(tmp_path: Path, subject_of: SubjectOf) -> SubjectOf:
    """Give a function that writes rows and prepares them."""

    def make(rows: Sequence[dict[str, Any]], **changes: Any) -> Subject:
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return subject_of({"path": str(path)}, **changes)

    return make


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the embedded model whose files can be changed."""
    return Path(shutil.copytree(find_model("tunebook/tiny"), tmp_path / "model"))


def finding(check: Check, subject: Subject) -> Finding | None:
    return next(iter(check(subject)), None)


def answers(*texts: str) -> list[dict[str, str]]:
    return [
        {"prompt": f"Say {n} and more.", "completion": texts[n % len(texts)]} for n in range(60)
    ]


def test_a_token_that_no_row_uses_may_lie_beyond_the_embedding(subject_with: SubjectOf) -> None:
    subject = subject_with(answers("Yes, that is so."))
    assert subject.codec is not None
    subject.codec.special_ids |= {subject.config["vocab_size"]}
    assert finding(token_id_out_of_range.check, subject) is None


def test_text_that_is_also_the_pad_token_is_not_padding(
    subject_with: SubjectOf, model: Path
) -> None:
    edit_json(model / "tokenizer_config.json", pad_token="!")
    subject = subject_with(answers("Wow! And then!!!!", "No! Never."), model=str(model))
    assert subject.codec is not None
    assert subject.codec.decode([subject.codec.pad_id or 0]) == "!"
    assert finding(padding_in_loss.check, subject) is None


def test_pad_tokens_that_stand_in_stored_rows_are_padding(subject_with: SubjectOf) -> None:
    subject = subject_with(answers("Yes, that is so."))
    assert subject.codec is not None
    pad = subject.codec.pad_id
    padded = replace(
        batch_rows(subject)[0], stored=None, ids=np.append(batch_rows(subject)[0].ids, [pad, pad])
    )
    from tunebook.plan.rows import padding_of

    assert padding_of(padded, subject.codec)[-3:].tolist() == [False, True, True]
    unread = replace(padded, fresh=None)
    assert padding_of(unread, subject.codec)[-2:].tolist() == [True, True]


def test_a_row_of_another_step_is_not_looked_for_in_the_whole_run(
    subject_with: SubjectOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = subject_with(answers("Yes, that is so."), train={"epochs": 50})
    assert finding(row_count_mismatch.check, subject) is None
    first, *others = subject.batches
    strange = replace(first, example_ids=("rows#999", *first.example_ids[1:]))
    subject = replace(subject, batches=(strange, *others))
    assert subject.prepared is not None
    real, n_read = type(subject.prepared.train).row, []
    monkeypatch.setattr(
        type(subject.prepared.train), "row", lambda s, i: (n_read.append(i), real(s, i))[1]
    )
    found = finding(row_count_mismatch.check, subject)
    assert found is not None
    assert found.evidence["examples"] == ["rows#999"]
    assert len(n_read) == subject.recipe.train.effective_batch_size


def edit_json(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
