"""Runs with frozen parts, new tokens and layers of their own, alone and in chains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file
from test_methods import SHORT, start, train
from test_train_flow import history, weights
from transformers import AutoTokenizer

from tunebook.book.events import read_events
from tunebook.book.places import RunFolder
from tunebook.book.plans import read_plan
from tunebook.errors import ModelError, RunEnded, RunFileError
from tunebook.recipe.load import read_resolved

TOKEN = "<|knowledge|>"


@pytest.fixture
def rows(book: Path) -> list[dict[str, Any]]:
    """Rows in which the new token stands, as sources of a run file."""
    told = [
        {"instruction": f"Tell {i} {TOKEN} the sea", "output": f"a story {TOKEN} {i}"}
        for i in range(40)
    ]
    path = book / "told.json"
    path.write_text(json.dumps(told), encoding="utf-8")
    return [{"path": str(path)}]


def interrupted(book: Path, name: str, model: Path | str, **changes: Any) -> RunFolder:
    """Train the same twice, once with a pause; both must end in the same bits."""
    whole = start(book, name, model, **changes)
    train(whole)
    parted = start(book, f"{name}-parted", model, **changes)
    with pytest.raises(RunEnded):
        train(parted, pause_after=3)
    train(parted)
    assert weights(parted) == weights(whole)
    assert history(parted) == history(whole)
    return whole


def test_frozen_layers_and_new_tokens_go_through_a_pause_and_into_a_child(
    book: Path, tiny_model: Path, rows: list[dict[str, Any]]
) -> None:
    changes = {**SHORT, "data": rows, "add_tokens": [TOKEN], "freeze": ["layers:0", "norm"]}
    run = interrupted(book, "whole", tiny_model, **changes)
    before = load_file(tiny_model / "model.safetensors")
    after = load_file(run.final / "model.safetensors")
    embedding = "model.embed_tokens.weight"
    assert after[embedding].shape[0] == before[embedding].shape[0] + 1
    frozen = {k for k in before if k.startswith(("model.layers.0.", "model.norm."))}
    moved = {k for k in before if k != embedding and (before[k] != after[k]).any()}
    assert frozen
    assert moved == set(before) - frozen - {embedding}
    plan = read_plan(run)["parameters"]
    assert plan["total"] == sum(v.size for v in after.values())
    assert plan["trainable"] == plan["total"] - sum(before[k].size for k in frozen)
    tokenizer = AutoTokenizer.from_pretrained(run.final)
    assert tokenizer.convert_tokens_to_ids(TOKEN) == before[embedding].shape[0]
    child = start(book, "child", "run:whole", **SHORT, data=rows)
    train(child)
    # It begins where its parent ended, on the same held-out tokens.
    first, last = read_events(child).validations[0], read_events(run).validations[-1]
    assert first.loss == last.loss
    with pytest.raises(ModelError, match=r"has '<\|knowledge\|>' already"):
        start(book, "again", "run:whole", **{**changes, "freeze": []})


def test_an_adapter_with_new_tokens_goes_through_a_pause_and_into_a_child(
    book: Path, tiny_model: Path, rows: list[dict[str, Any]]
) -> None:
    lora = {"rank": 4, "layers": "last:1", "variant": "rslora"}
    changes = {**SHORT, "data": rows, "method": "lora", "lora": lora}
    changes["add_tokens"] = [TOKEN, "<|never|>"]
    run = interrupted(book, "whole", tiny_model, **changes)
    unread = [note for note in read_events(run).notes if "stands in no row" in note]
    assert [note.split("'")[1] for note in unread] == ["<|never|>"]
    saved = load_file(run.final / "adapter_model.safetensors")
    assert sum(v.size for v in saved.values()) == read_plan(run)["parameters"]["trainable"]
    assert {k for k in saved if "layers" in k} == {k for k in saved if ".layers.1." in k}
    child = start(book, "child", "run:whole", **changes)
    train(child)
    assert read_events(child).validations[0].loss == read_events(run).validations[-1].loss
    with pytest.raises(RunFileError, match=r'say add_tokens: \["<\|knowledge\|>", "<\|never\|>"\]'):
        start(book, "bare", "run:whole", **{**changes, "add_tokens": []})


@pytest.mark.parametrize("method", ["full", "lora"])
def test_sft_goes_on_from_cpt_with_its_weights_and_settings_of_its_own(
    book: Path, tiny_model: Path, method: str
) -> None:
    book.joinpath("sea.txt").write_text("the old sailor told a story about the sea. " * 200)
    text = {
        **SHORT,
        "stage": "cpt",
        "method": method,
        "template": "auto",
        "data": [{"path": str(book / "sea.txt")}],
        "max_seq_len": 64,
    }
    first = start(book, "read", tiny_model, **text)
    train(first)
    second = start(book, "answer", "run:read", **SHORT, method=method)
    train(second)
    then, _ = read_resolved(first.resolved_yaml.read_text())
    now, environment = read_resolved(second.resolved_yaml.read_text())
    assert (then.train_on, then.overlong, then.packing) == ("all", "split", True)
    assert (now.train_on, now.overlong, now.packing) == ("response", "drop", False)
    assert environment["model_as_written"] == "run:read"
    # Its weights, and nothing else, are the first run's.
    if method == "full":
        assert Path(now.model) == first.final.resolve()
        embedding = "model.embed_tokens.weight"
    else:
        assert now.model == str(tiny_model)
        assert Path(str(environment["adapter"])) == first.final.resolve()
        embedding = "base_model.model.model.layers.1.mlp.up_proj.lora_B.weight"
    assert environment["parent_weights"]
    assert weights(second)[embedding] != weights(first)[embedding]
    assert (now.max_seq_len, then.max_seq_len) == (256, 64)
