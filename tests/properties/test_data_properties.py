"""What holds of data whatever it is: nothing lost, nothing doubled, nothing too long."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tunebook.data.codec import FlatTokens
from tunebook.data.packing import pack_rows
from tunebook.data.prepare import prepare
from tunebook.errors import DataError
from tunebook.recipe.tree import Recipe


class Bytes:
    """A tokenizer whose tokens are the characters' UTF-8 bytes."""

    name, fingerprint = "bytes", "bytes-1"
    vocab_size, eos_id, bos_id = 258, 256, 257
    special_ids = frozenset({256, 257})
    special_strings = ("<end>", "<begin>")
    normalizes_specials = False
    has_chat_template, chat_template = False, None

    def encode(self, text: str, *, specials: bool) -> tuple[list[int], list[tuple[int, int]]]:
        pairs = [(b, (i, i + 1)) for i, sign in enumerate(text) for b in sign.encode()]
        return [b for b, _ in pairs], [span for _, span in pairs]

    def encode_flat(self, texts: Sequence[str], *, specials: bool) -> FlatTokens:
        ids = np.frombuffer("".join(texts).encode(), dtype=np.uint8)
        counts = np.array([len(text.encode()) for text in texts], dtype=np.int64)
        return ids, counts, np.ones(len(ids), dtype=np.int32), None

    def render_chat(
        self, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool
    ) -> str:
        raise AssertionError("there is no chat template")

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(i for i in ids if i < 256).decode(errors="replace")


words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=30)
rows = st.lists(st.tuples(words, words), min_size=1, max_size=25)


@given(
    rows=rows,
    overlong=st.sampled_from(["drop", "cut"]),
    max_seq_len=st.integers(4, 60),
    fraction=st.sampled_from([0.0, 0.1, 0.5, 0.9]),
    sample=st.none() | st.integers(1, 30),
    packing=st.booleans(),
    filters=st.lists(
        st.sampled_from(["exact_duplicate", "short_response", "long_response"]), unique=True
    ),
)
@settings(max_examples=60, deadline=None)
def test_rows_in_are_rows_dropped_plus_rows_trained_on_plus_rows_held_out(
    rows, overlong, max_seq_len, fraction, sample, packing, filters
):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.jsonl"
        lines = [json.dumps({"prompt": p, "completion": c}) for p, c in rows]
        path.write_text("\n".join(lines), encoding="utf-8")
        recipe = Recipe(
            name="r",
            model="m",
            data=[{"path": str(path), "sample": sample, "filters": filters}],
            overlong=overlong,
            max_seq_len=max_seq_len,
            packing=packing,
            validation={"fraction": fraction},
        )
        try:
            prepared = prepare(recipe, Bytes(), Path(folder) / "cache", lambda text: None)
        except DataError as error:
            if "no row is left" not in str(error):
                raise
            return
        (account,) = prepared.accounts
        assert account.rows_in == len(rows) == sum(account.dropped.values()) + account.rows_out
        assert account.rows_out == account.train_rows + account.validation_rows
        train = prepared.train
        trained = [e.tokens for i in range(train.rows_per_epoch) for e in train.row(i)]
        held_set = prepared.validation
        held = [held_set.example(i) for i in range(len(held_set))] if held_set else []
        assert len(trained) == account.train_rows
        assert len({e.id for e in [*trained, *held]}) == account.rows_out
        assert sum(len(e.ids) for e in [*trained, *held]) == account.tokens
        assert sum(sum(e.target) for e in [*trained, *held]) == account.target_tokens
        for one in [*trained, *held]:
            assert len(one.ids) <= max_seq_len
            assert any(one.target)
            assert not one.target[0]
        assert not {e.document for e in trained} & {e.document for e in held}


@given(
    lengths=st.lists(st.integers(1, 70), max_size=200),
    capacity=st.integers(1, 70),
    seed=st.integers(0, 5),
)
@settings(max_examples=200, deadline=None)
def test_packing_holds_every_example_once_and_never_exceeds_the_capacity(lengths, capacity, seed):
    generator = np.random.Generator(np.random.PCG64(seed))
    numbers, starts = pack_rows(np.array(lengths, dtype=np.int64), capacity, generator)
    assert Counter(numbers.tolist()) == Counter(range(len(lengths)))
    for start, stop in pairwise(starts.tolist()):
        row = [lengths[n] for n in numbers[start:stop]]
        assert row
        assert len(row) == 1 or sum(row) <= capacity


@given(lengths=st.lists(st.integers(1, 64), min_size=1, max_size=200))
def test_packing_wastes_less_than_half_of_all_rows_but_one(lengths):
    generator = np.random.Generator(np.random.PCG64(0))
    _, starts = pack_rows(np.array(lengths, dtype=np.int64), 64, generator)
    assert len(starts) - 1 <= max(1, 2 * sum(lengths) / 64 + 1)


@given(text=st.text(max_size=200), max_seq_len=st.integers(2, 20))
@settings(max_examples=60, deadline=None)
def test_windows_of_a_text_predict_every_token_exactly_once(text, max_seq_len):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.jsonl"
        path.write_text(json.dumps({"text": "a" + text}), encoding="utf-8")
        recipe = Recipe(
            name="r",
            model="m",
            stage="cpt",
            data=[{"path": str(path)}],
            max_seq_len=max_seq_len,
            packing=False,
            validation={"fraction": 0},
        )
        prepared = prepare(recipe, Bytes(), Path(folder) / "cache", lambda text: None)
        shards = prepared.train.sources[0]
        scored = [
            token
            for i in range(len(shards))
            for token, target in zip(shards.example(i).ids, shards.example(i).target, strict=True)
            if target
        ]
        assert scored == [*("a" + text).encode(), Bytes.eos_id]
        assert sum(shards.example(i).scored_bytes for i in range(len(shards))) == len(scored) - 1
