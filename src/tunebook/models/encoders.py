"""Other libraries than `tokenizers` that encode text, made from the same tokenizer.json.

Each gives a function from texts to (ids, counts): all token ids end to end, and how many each text
has; the text of a special token may come out as that token or as text. None is trusted: who uses
one compares it with `tokenizers`.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

IdsAndCounts = tuple[NDArray[Any], NDArray[np.int64]]
Encode = Callable[[Sequence[str]], IdsAndCounts]

# The pattern of ByteLevel pre-tokenizers with `use_regex` (Radford et al. 2019).
_GPT2_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def gigatoken_encoder(tokenizer_json: str) -> Encode:
    """Make an encoder of gigatoken; raises whatever that raises for tokenizers it does not know."""
    gigatoken = importlib.import_module("gigatoken")
    fast = gigatoken.Tokenizer.from_json(tokenizer_json)

    def encode(texts: Sequence[str]) -> IdsAndCounts:
        # One thread: the processes that prepare data share the cores among themselves.
        layout = fast.encode_batch(list(texts), parallel=False).layout
        offsets = np.asarray(layout.offsets.data).astype(np.int64)
        ids = np.asarray(layout.content.data)[offsets[0] : offsets[-1]]
        return ids.astype(np.uint32, copy=False), np.diff(offsets)

    return encode


def tiktoken_encoder(tokenizer_json: str) -> Encode:
    """Make an encoder of tiktoken; ValueError for a tokenizer that is not plain byte-level BPE."""
    tiktoken = importlib.import_module("tiktoken")
    known = json.loads(tokenizer_json)
    if any(not token.get("special") for token in known.get("added_tokens") or []):
        raise ValueError("it has added tokens that are no special ones")
    letters = _byte_letters()
    ids_of = {
        bytes(letters[sign] for sign in token): number
        for token, number in known["model"]["vocab"].items()
        if all(sign in letters for sign in token)
    }
    # tiktoken gives out the rank of a merge as the token's id, so ranks are translated.
    ordered = [bytes([byte]) for byte in range(256)]
    for merge in known["model"]["merges"]:
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        ordered.append(bytes(letters[sign] for sign in left + right))
    ranks = {token: rank for rank, token in enumerate(dict.fromkeys(ordered))}
    number_of = np.array([ids_of[token] for token in ranks], dtype=np.uint32)
    encoding = tiktoken.Encoding(
        "tunebook", pat_str=_pattern(known), mergeable_ranks=ranks, special_tokens={}
    )

    def encode(texts: Sequence[str]) -> IdsAndCounts:
        found = [encoding.encode_ordinary(text) for text in texts]
        counts = np.array([len(one) for one in found], dtype=np.int64)
        flat = np.fromiter((rank for one in found for rank in one), np.int64, int(counts.sum()))
        return number_of[flat], counts

    return encode


ENCODERS: Mapping[str, Callable[[str], Encode]] = {
    "gigatoken": gigatoken_encoder,
    "tiktoken": tiktoken_encoder,
}
"""The libraries by name, the fastest first."""


def _pattern(known: Mapping[str, Any]) -> str:
    """Find the pattern by which a tokenizer cuts text into words; ValueError when it has none."""
    stated = known.get("pre_tokenizer") or {}
    steps = stated.get("pretokenizers") if stated.get("type") == "Sequence" else [stated]
    *before, last = steps or [{}]
    if last.get("type") != "ByteLevel" or last.get("add_prefix_space"):
        raise ValueError("its words are not cut by a pattern alone")
    if not before and last.get("use_regex", True):
        return _GPT2_PATTERN
    if len(before) == 1 and before[0].get("type") == "Split" and not last.get("use_regex", True):
        pattern = before[0]["pattern"].get("Regex")
        if pattern and before[0].get("behavior") == "Isolated" and not before[0].get("invert"):
            return str(pattern)
    raise ValueError("its words are not cut by a pattern alone")


def _byte_letters() -> dict[str, int]:
    """Give the byte that each letter of a byte-level vocabulary stands for (GPT-2's table)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {chr(byte): byte for byte in printable}
    return letters | {chr(256 + place): byte for place, byte in enumerate(others)}
