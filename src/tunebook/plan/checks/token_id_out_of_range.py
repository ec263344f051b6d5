"""token-id-out-of-range: every token needs a row in the model's embedding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tunebook.plan.subject import Subject
from tunebook.records import Finding

_CONFIG_IDS = ("pad_token_id", "bos_token_id", "eos_token_id")
_BLOCK_TOKENS, _MAX_TOKENS = 2**16, 2**26


def check(subject: Subject) -> Iterator[Finding]:
    """Hold stored ids, and those that tokenizer and config name, to the embedding.

    Other tokens of a tokenizer may lie beyond it, as those for images in a model of text.
    """
    n_rows = embedding_rows(subject.config)
    if n_rows is None:
        return
    beyond = dict(_named_ids(subject))
    largest, n_read = _largest_stored(subject)
    beyond["largest token of the stored rows"] = largest
    beyond = {name: token for name, token in beyond.items() if token >= n_rows}
    if not beyond:
        return
    name, token = next(iter(beyond.items()))
    yield Finding(
        "token-id-out-of-range",
        "refuse",
        f"the model has embeddings for {n_rows} tokens, ids 0 to {n_rows - 1}, and the {name} is "
        f"{token}",
        {"embedding_rows": n_rows, "beyond": beyond, "stored_tokens_looked_at": n_read},
        "use the model's own tokenizer as it came, and for padding a token that it has "
        "(`pad_token_id` in config.json: the end token's id, or null)",
    )


def embedding_rows(config: Mapping[str, Any]) -> int | None:
    """Give the rows of a model's embedding by its config; None when it does not say."""
    found = config.get("vocab_size")
    if found is None and isinstance(config.get("text_config"), Mapping):
        found = config["text_config"].get("vocab_size")
    return found if isinstance(found, int) else None


def _named_ids(subject: Subject) -> Iterator[tuple[str, int]]:
    for name in _CONFIG_IDS:
        found = subject.config.get(name)
        for token in found if isinstance(found, list) else [found]:
            if isinstance(token, int):
                yield f"{name} of config.json", token
    codec = subject.codec
    if codec is not None:
        ids = {"pad_token": codec.pad_id, "bos_token": codec.bos_id, "eos_token": codec.eos_id}
        for name, one in ids.items():
            if one is not None:
                yield f"{name} of the tokenizer", one


def _largest_stored(subject: Subject) -> tuple[int, int]:
    """Give the largest stored id, and how many ids were looked at: all, or blocks of very many."""
    if subject.prepared is None:
        return -1, 0
    train = [shards.parts for shards in subject.prepared.train.sources]
    held = subject.prepared.validation
    stores = {p.store.folder: p.store for p in (*sum(train, ()), *(held.parts if held else ()))}
    n_tokens = sum(len(ids) for store in stores.values() for ids in store.segment_ids())
    every = max(1, -(-n_tokens // _MAX_TOKENS))
    largest, n_read = -1, 0
    for store in stores.values():
        for ids in store.segment_ids():
            for start in range(0, len(ids), every * _BLOCK_TOKENS):
                block = np.asarray(ids[start : start + _BLOCK_TOKENS])
                largest, n_read = max(largest, int(block.max())), n_read + len(block)
    return largest, n_read
