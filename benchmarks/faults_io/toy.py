"""A toy model, its rows and its run files: small enough that a run takes a second or two."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

WORDS = ["red", "green", "blue", "cat", "dog", "bird", "sun", "moon", "rain", "snow"]

RELORA = {
    "method": "relora",
    "lora": {"rank": 2},
    "relora": {"merge_every": 3, "warmup_steps": 1},
}
"""A run whose base changes too: merged at steps 3, 6 and so on."""


def make_model(folder: Path, *, width: int = 16) -> Path:
    """Save a random two-layer GPT-2 with dropout 0.1 and a byte-level tokenizer (no downloads)."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {sign: number for number, sign in enumerate(["<|endoftext|>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    end = "<|endoftext|>"
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=end, eos_token=end, pad_token=end
    )
    fast.save_pretrained(folder)
    config = GPT2Config(
        vocab_size=len(vocabulary),
        n_positions=128,
        n_embd=width,
        n_layer=2,
        n_head=2,
        bos_token_id=0,
        eos_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = GPT2LMHeadModel(config)
    model.save_pretrained(folder)
    return folder


def make_book(folder: Path) -> Path:
    """Make a book with 40 rows and the toy model beside its runs."""
    from tunebook.book.places import create_book

    book = create_book(folder / "book")
    rng = random.Random(3)
    rows = [
        {"instruction": f"Say {i}", "output": " ".join(rng.choices(WORDS, k=rng.randint(2, 4)))}
        for i in range(40)
    ]
    (book / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    make_model(book / "toy")
    return book


def write_run(book: Path, name: str, **changes: Any) -> Path:
    """Write a run file that saves after every step; a mapping in `changes` is merged."""
    values: dict[str, Any] = {
        "name": name,
        "model": str(book / "toy"),
        "device": "cpu",
        "data": [{"path": str(book / "rows.json")}],
        "template": "qa",
        "max_seq_len": 128,
        "validation": {"fraction": 0.1},
        "train": {"max_steps": 40, "effective_batch_size": 4, "learning_rate": 1e-3},
        "evaluate": {"every": 10, "max_new_tokens": 2, "prompts": ["Say 1"], "canary": 0},
        "checkpoint": {"every": 1, "keep": 3},
        "accept": ["random-base"],
    }
    for key, value in changes.items():
        values[key] = {**values[key], **value} if isinstance(values.get(key), dict) else value
    path = book / f"{name}.yaml"
    path.write_text(json.dumps(values), encoding="utf-8")
    return path
