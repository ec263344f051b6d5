"""Padding that is trained on or only costs time, and ends that are never trained (3, 13, 14)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tunebook.data.batches import MicroBatch, collate
from tunebook.data.order import SourcedExample
from tunebook.models.find import find_model
from tunebook.models.tokenizer import load_tokenizer

Caught = Callable[..., Mapping[str, Any]]
TINY = "tunebook/tiny"
TEMPLATE = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}<|endoftext|>\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


@pytest.fixture
def run_file(write_data: Callable[..., Path], write_run: Callable[..., Path]) -> Path:
    rows = [
        {"prompt": f"Say {n}:", "completion": f"{'one more, ' * (n % 3 * 10)}that is {n * n}."}
        for n in range(60)
    ]
    return write_run(write_data("numbers.jsonl", rows))


def padded(
    examples: Sequence[SourcedExample], *, with_loss: bool, **places: tuple[int, ...]
) -> MicroBatch:
    """Fill rows up with the pad token, as most collators do."""
    pad = load_tokenizer(TINY).pad_id
    assert pad is not None
    width = max(len(example.tokens.ids) for example in examples)
    filled = []
    for example in examples:
        fill = width - len(example.tokens.ids)
        tokens = replace(
            example.tokens,
            ids=(*example.tokens.ids, *[pad] * fill),
            target=(*example.tokens.target, *[with_loss] * fill),
        )
        filled.append(replace(example, tokens=tokens))
    return collate(filled, **places)


def without_end(examples: Sequence[SourcedExample], **places: tuple[int, ...]) -> MicroBatch:
    """Pad is the end token, and every pad is masked."""
    batch = collate(examples, **places)
    end = load_tokenizer(TINY).eos_id
    return replace(batch, target=batch.target & (batch.ids != end))


@pytest.mark.defect(3, "padding-in-loss", "P")
def test_padding_that_carries_loss_is_refused(caught: Caught, run_file: Path) -> None:
    def break_it(patch: pytest.MonkeyPatch) -> None:
        patch.setattr("tunebook.step.horizon.collate", partial(padded, with_loss=True))

    found = caught(run_file, "padding-in-loss", "refuse", break_it)
    assert 0 < found["evidence"]["share"] < 1


@pytest.mark.defect(14, "padding-waste", "P")
def test_a_batch_that_is_padded_to_its_longest_row_is_wasteful(
    caught: Caught, run_file: Path
) -> None:
    def break_it(patch: pytest.MonkeyPatch) -> None:
        patch.setattr("tunebook.step.horizon.collate", partial(padded, with_loss=False))

    found = caught(run_file, "padding-waste", "warn", break_it)
    assert found["evidence"]["share"] > 0.3


@pytest.mark.defect(13, "eos-never-trained", "P")
def test_an_end_token_that_the_collator_masks_is_never_trained(
    caught: Caught, run_file: Path
) -> None:
    def break_it(patch: pytest.MonkeyPatch) -> None:
        patch.setattr("tunebook.step.horizon.collate", without_end)

    found = caught(run_file, "eos-never-trained", "refuse", break_it)
    assert found["evidence"]["share"] == 0


@pytest.mark.defect(13, "eos-never-trained", "P")
def test_an_end_token_that_is_masked_when_rows_are_made_is_never_trained(
    caught: Caught, run_file: Path
) -> None:
    from tunebook.data import segment

    real = segment.tokenize

    def masked(rendered: Any, codec: Any, *, train_all: bool) -> Any:
        block = real(rendered, codec, train_all=train_all)
        return replace(block, target=block.target & (block.ids != codec.eos_id))

    caught(
        run_file,
        "eos-never-trained",
        "refuse",
        lambda patch: patch.setattr(segment, "tokenize", masked),
    )


@pytest.mark.defect(13, "eos-never-trained", "P")
def test_a_chat_template_without_an_end_never_trains_one(
    caught: Caught, run_file: Path, in_book: Path
) -> None:
    model = in_book / "model"
    shutil.copytree(find_model(TINY), model)
    (model / "chat_template.jinja").write_text(TEMPLATE)
    values = {**json.loads(run_file.read_text()), "model": str(model)}
    run_file.write_text(json.dumps(values))

    def break_it(_patch: pytest.MonkeyPatch) -> None:
        (model / "chat_template.jinja").write_text(TEMPLATE.replace("<|endoftext|>", ""))

    found = caught(run_file, "eos-never-trained", "refuse", break_it)
    assert found["evidence"]["end_token"] is None
    assert "template: chat" in found["way_out"]


@pytest.mark.defect(13, "template-not-prefix-preserving", "P")
def test_a_template_that_rewrites_what_came_before_is_refused_by_name(
    caught: Caught, write_data: Callable[..., Path], write_run: Callable[..., Path], in_book: Path
) -> None:
    model = in_book / "model"
    shutil.copytree(find_model(TINY), model)
    (model / "chat_template.jinja").write_text(TEMPLATE)
    talk = [
        {
            "messages": [
                {"role": role, "content": f"{role} says {n * turn + 7}"}
                for turn in range(2)
                for role in ("user", "assistant")
            ]
        }
        for n in range(30)
    ]
    run_file = write_run(write_data("talk.jsonl", talk), model=str(model))

    def break_it(_patch: pytest.MonkeyPatch) -> None:
        # As templates do that keep only the last answer's reasoning.
        last = "{% for m in messages %}{% if loop.last or m.role == 'user' %}"
        broken = TEMPLATE.replace("{% for m in messages %}", last)
        broken = broken.replace("{% endfor %}", "{% endif %}{% endfor %}")
        (model / "chat_template.jinja").write_text(broken)

    caught(run_file, "template-not-prefix-preserving", "refuse", break_it)


def test_padding_of_batches_is_measured_against_stored_rows_on_either_side(
    run_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    from tunebook.plan.rows import Row, padding_of
    from tunebook.records import Tokens

    codec: Any = SimpleNamespace(eos_id=2, bos_id=1, pad_id=2, decode=lambda _ids: "</s>")
    stored = Tokens("a#1", "d", (1, 5, 6, 2), (False, True, True, True))
    flags = np.ones(6, dtype=bool)
    for ids, padding in (
        ([1, 5, 6, 2, 2, 2], [0, 0, 0, 0, 1, 1]),
        ([2, 2, 1, 5, 6, 2], [1, 1, 0, 0, 0, 0]),
        ([1, 5, 6, 2, 7, 7], [0, 0, 0, 0, 1, 1]),
    ):
        row = Row("a", "a#1", np.array(ids), flags, True, stored)
        assert padding_of(row, codec).astype(int).tolist() == padding
