"""Special tokens as plain text, and ids that the model has no embedding for (8)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tunebook.models.find import find_model

Caught = Callable[..., Mapping[str, Any]]


@pytest.fixture
def rows() -> list[dict[str, str]]:
    return [
        {"instruction": f"Name {n}.", "output": f"That is <s>{n * n}</s> now"} for n in range(60)
    ]


@pytest.mark.defect(8, "literal-special-token", "P")
@pytest.mark.parametrize("mark", ["<|endoftext|>", "<|eot_id|>", "</s>"])
def test_the_end_token_of_any_model_as_plain_text_is_refused(
    caught: Caught,
    write_data: Callable[..., Path],
    write_run: Callable[..., Path],
    rows: list[dict[str, str]],
    mark: str,
) -> None:
    from tunebook.data.render import PlainRenderer

    real = PlainRenderer.render

    def marked(self: PlainRenderer, example: Any) -> Any:
        messages = tuple(
            replace(m, content=m.content + mark if m.role == "assistant" else m.content)
            for m in example.messages
        )
        return real(self, replace(example, messages=messages))

    run_file = write_run(write_data("rows.json", rows))
    found = caught(
        run_file,
        "literal-special-token",
        "refuse",
        lambda patch: patch.setattr(PlainRenderer, "render", marked),
    )
    assert found["evidence"]["strings"] == {mark: found["evidence"]["sampled_rows"]}
    assert "repair_special_tokens" in found["way_out"]


@pytest.mark.defect(8, "token-id-out-of-range", "P")
def test_a_pad_token_beyond_the_vocabulary_is_refused(
    caught: Caught,
    write_data: Callable[..., Path],
    write_run: Callable[..., Path],
    rows: list[dict[str, str]],
    in_book: Path,
) -> None:
    shutil.copytree(find_model("tunebook/tiny"), in_book / "model")
    config = in_book / "model" / "config.json"
    run_file = write_run(write_data("rows.json", rows), model=str(in_book / "model"))

    def break_it(_patch: pytest.MonkeyPatch) -> None:
        values = json.loads(config.read_text())
        config.write_text(json.dumps({**values, "pad_token_id": values["vocab_size"]}))

    found = caught(run_file, "token-id-out-of-range", "refuse", break_it)
    assert found["evidence"]["beyond"] == {
        "pad_token_id of config.json": found["evidence"]["embedding_rows"]
    }


@pytest.mark.defect(8, "token-id-out-of-range", "P")
def test_a_stored_id_beyond_the_vocabulary_is_refused(
    caught: Caught,
    write_data: Callable[..., Path],
    write_run: Callable[..., Path],
    rows: list[dict[str, str]],
) -> None:
    from tunebook.data import segment

    real = segment.tokenize

    def beyond(rendered: Any, codec: Any, *, train_all: bool) -> Any:
        block = real(rendered, codec, train_all=train_all)
        block.ids[block.starts[-1] - 2] = codec.vocab_size + 3
        return block

    caught(
        write_run(write_data("rows.json", rows)),
        "token-id-out-of-range",
        "refuse",
        lambda patch: patch.setattr(segment, "tokenize", beyond),
    )
