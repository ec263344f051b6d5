"""Activations below the adapter, kept over epochs: the same bits as when they are made anew."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from test_methods import SHORT, start, train
from test_train_flow import history, weights
from transformers import GPT2Config, GPT2LMHeadModel

from tunebook.book.events import read_events
from tunebook.book.places import RunFolder
from tunebook.book.plans import read_plan
from tunebook.errors import RunEnded, RunFileError
from tunebook.models.tokenizer import copy_tokenizer
from tunebook.step.below import Below, _Kept

WIDTH = 32
EPOCHS = {
    **SHORT,
    "train": {"epochs": 3, "max_steps": None, "effective_batch_size": 16, "micro_batch_size": 4},
    "method": "lora",
}


@pytest.fixture(autouse=True)
def one_thread(tiny_gpt2: Path) -> Iterator[None]:
    """Products this small only wait for a second thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def three_layers(tmp_path_factory: pytest.TempPathFactory, tiny_gpt2: Path) -> Path:
    """A random GPT-2 of three layers without dropout."""
    folder = tmp_path_factory.mktemp("three-layers")
    config = GPT2Config.from_pretrained(
        tiny_gpt2, n_layer=3, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        GPT2LMHeadModel(config).save_pretrained(folder)
    copy_tokenizer(tiny_gpt2, folder)
    return folder


def lora(where: object, layers: object = "last:1", **more: Any) -> dict[str, Any]:
    return {"rank": 4, "layers": layers, "cache_activations": where, **more}


def train_anew(run: RunFolder) -> None:
    """Train with the same computation, nothing of it kept."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Below, "keep", lambda *_: None)
        train(run)


@pytest.mark.parametrize(
    ("where", "changes"),
    [
        ("memory", {"lora": lora("memory", dropout=0.1)}),
        ("disk", {"lora": lora("disk", [1, 2], variant="dora"), "packing": True}),
    ],
    ids=["rows", "packed"],
)
def test_kept_activations_change_no_bit_and_take_what_was_planned(
    book: Path,
    three_layers: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    changes: dict[str, Any],
) -> None:
    changes = {**EPOCHS, **changes}
    anew = start(book, "anew", three_layers, **changes)
    train_anew(anew)
    made: list[_Kept] = []
    begin = _Kept.__init__

    def noted(self: _Kept, *args: Any) -> None:
        begin(self, *args)
        made.append(self)

    monkeypatch.setattr(_Kept, "__init__", noted)
    kept = start(book, "kept", three_layers, **changes)
    train(kept)
    assert history(kept) == history(anew)
    assert weights(kept) == weights(anew)
    assert not [note for note in read_events(kept).notes if "cache_activations" in note]
    # Nothing of it is left behind.
    assert {p.name for p in kept.path.rglob("*")} == {p.name for p in anew.path.rglob("*")}
    one = made[-1]  # before it, that of the check at the start
    fact = read_events(kept).facts["activation_cache"]
    assert (fact["kept_in"], fact["tokens"]) == (where, one.n_tokens)
    assert fact["planned_bytes"] == one.n_tokens * WIDTH * 4
    plan = read_plan(kept)
    found = plan["memory"]["parts"].get("activation cache", 0)
    assert {"memory": found, "disk": plan["disk"]["activation_cache_bytes"]} == {
        "memory": 0,
        "disk": 0,
        where: fact["planned_bytes"],
    }
    assert sum(plan["memory"]["parts"].values()) == plan["memory"]["longest_batch_bytes"]


def test_a_run_that_was_interrupted_keeps_them_anew_and_ends_in_the_same_bits(
    book: Path, three_layers: Path
) -> None:
    changes = {**EPOCHS, "lora": lora("memory")}
    whole = start(book, "whole", three_layers, **changes)
    train(whole)
    parted = start(book, "parted", three_layers, **changes)
    with pytest.raises(RunEnded):
        train(parted, pause_after=len(read_events(whole).steps) // 2)
    train(parted)
    assert history(parted) == history(whole)
    assert weights(parted) == weights(whole)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"method": "full"}, "method full trains the layers below too"),
        ({"method": "relora"}, "relora adds its adapter to the weights"),
        ({"devices": 2}, "devices: 2"),
        ({"add_tokens": ["<new>"]}, "`add_tokens` trains embeddings"),
    ],
)
def test_runs_whose_lower_layers_change_are_refused(
    book: Path, three_layers: Path, changes: dict[str, Any], why: str
) -> None:
    with pytest.raises(RunFileError, match=f"cache_activations: memory.*{why}.*false"):
        start(book, "a", three_layers, **{**EPOCHS, "lora": lora("memory"), **changes})
