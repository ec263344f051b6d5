"""What holds of every mixture, sample, split and part, whatever the rows."""

from __future__ import annotations

import itertools
import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from test_data_properties import Bytes

from tunebook.data.order import TrainSet
from tunebook.data.packing import pack_rows
from tunebook.data.prepare import Prepared, prepare
from tunebook.data.split import mix, part_of_each
from tunebook.errors import DataError
from tunebook.recipe.tree import Recipe


class FewShards:
    """Lengths without tokens, which is all that an order is made of."""

    def __init__(self, name: str, lengths: list[int]) -> None:
        self.name = name
        self.lengths = self.target_counts = np.array(lengths, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.lengths)


sizes = st.lists(st.integers(1, 40), min_size=1, max_size=30)
weights = st.one_of(st.sampled_from([0.1, 0.5, 1.0, 2.5, 4.0]), st.floats(0.01, 5))


@given(
    sources=st.lists(st.tuples(sizes, weights), min_size=1, max_size=4),
    seed=st.integers(0, 3),
    packing=st.booleans(),
    epochs=st.integers(1, 12),
)
@settings(max_examples=150, deadline=None)
def test_a_mixture_visits_every_row_of_every_source_as_its_weight_says(
    sources, seed, packing, epochs
):
    shards: Any = [FewShards(f"s{i}", lengths) for i, (lengths, _) in enumerate(sources)]
    train = TrainSet(
        shards, [w for _, w in sources], seed=seed, packing=packing, max_seq_len=40
    )  # fmt: skip
    seen = Counter(train.address(i) for i in range(epochs * train.rows_per_epoch))
    for place, (lengths, weight) in enumerate(sources):
        n_rows = train._rows[place].n_rows
        counts = [seen[place, row] for row in range(n_rows)]
        assert n_rows == len(lengths) or packing
        # No row is ahead of another by more than one visit, at any time.
        assert max(counts) - min(counts) <= 1
        share = train.shares[place]
        assert sum(counts) == epochs * share.rows
        assert abs(share.rows - weight * n_rows) <= 0.5 or share.rows == 1
        assert not packing or share.tokens >= 0.99 * sum(lengths) * min(share.rows / n_rows, 1) - 1


@given(sizes=st.lists(sizes, min_size=1, max_size=3), seed=st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_any_row_is_found_again_without_reading_those_before(sizes, seed):
    shards: Any = [FewShards(f"s{i}", lengths) for i, lengths in enumerate(sizes)]

    def make() -> TrainSet:
        weights = [0.3 + i for i in range(len(sizes))]
        return TrainSet(shards, weights, seed=seed, packing=True, max_seq_len=64)

    one, other = make(), make()
    whole = [one.address(i) for i in range(3 * one.rows_per_epoch)]
    for index in (len(whole) - 1, 0, len(whole) // 2):
        assert other.address(index) == whole[index]


@given(
    lengths=st.lists(st.integers(1, 70), max_size=300),
    capacity=st.integers(1, 70),
    block=st.integers(1, 100),
)
@settings(max_examples=200, deadline=None)
def test_packing_in_blocks_holds_every_example_once_and_never_exceeds_the_capacity(
    lengths, capacity, block
):
    def pack() -> Any:
        generator = np.random.Generator(np.random.PCG64(7))
        return pack_rows(np.array(lengths, dtype=np.int64), capacity, generator, block)

    numbers, starts = pack()
    assert sorted(numbers.tolist()) == list(range(len(lengths)))
    for start, stop in itertools.pairwise(starts.tolist()):
        row = [lengths[n] for n in numbers[start:stop]]
        assert row
        assert len(row) == 1 or sum(row) <= capacity
    assert all(np.array_equal(a, b) for a, b in zip(pack(), (numbers, starts), strict=True))


@given(lengths=st.lists(st.integers(1, 64), min_size=1, max_size=200))
def test_no_two_packed_rows_of_a_block_fit_into_one(lengths):
    generator = np.random.Generator(np.random.PCG64(0))
    numbers, starts = pack_rows(np.array(lengths, dtype=np.int64), 64, generator)
    sums = sorted(
        sum(lengths[n] for n in numbers[a:b]) for a, b in itertools.pairwise(starts.tolist())
    )
    assert len(sums) < 2 or sums[0] + sums[1] > 64


# --- split, sample, parts -----------------------------------------------------------------------

words = st.text(st.characters(codec="ascii", min_codepoint=97, max_codepoint=122), min_size=1)
rows = st.lists(st.tuples(words, words), min_size=1, max_size=40)


def prepared(folder: str, pairs: list[tuple[str, str]], **changes: Any) -> Prepared | None:
    """Prepare rows; None when nothing is left to train on or parts cannot be filled."""
    path = Path(folder) / "a.jsonl"
    path.write_text("".join(json.dumps({"prompt": p, "completion": c}) + "\n" for p, c in pairs))
    source = {"path": str(path), "sample": changes.pop("sample", None)}
    recipe = Recipe(name="r", model="m", data=[source], **changes)
    try:
        return prepare(recipe, Bytes(), Path(folder) / "cache", lambda text: None)
    except DataError as error:
        if "no row is left" in str(error) or "examples are too few" in str(error):
            return None
        raise


def contents(shards: Any) -> list[int]:
    return [] if shards is None else shards.contents.tolist()


@given(pairs=rows, parts=st.integers(2, 6), fraction=st.sampled_from([0.0, 0.2]), data=st.data())
@settings(max_examples=60, deadline=None)
def test_parts_are_disjoint_and_add_up_for_any_number_of_them(pairs, parts, fraction, data):
    sample = data.draw(st.none() | st.integers(1, 30))
    common: dict[str, Any] = {"validation": {"fraction": fraction}, "sample": sample}
    with tempfile.TemporaryDirectory() as folder:
        whole = prepared(folder, pairs, **common)
        found = [
            prepared(folder, pairs, parts=parts, part=k, **common) for k in range(1, parts + 1)
        ]
        if whole is None or found[0] is None:
            assert all(one is None for one in found)
            return
        sides = [set(contents(one.train.sources[0])) for one in found if one is not None]
        assert len(sides) == parts
        assert all(not a & b for a, b in itertools.combinations(sides, 2))
        together = Counter(c for one in found for c in contents(one.train.sources[0]))
        assert together == Counter(contents(whole.train.sources[0]))
        assert {one.validation_hash for one in found} == {whole.validation_hash}
        for one in found:
            (account,) = one.accounts
            assert account.rows_in == sum(account.dropped.values()) + account.rows_out
            assert sum(s.examples for s in one.parts.slices) == sum(together.values())


@given(old=rows, new=rows, fraction=st.sampled_from([0.2, 0.5]), sample=st.integers(1, 20))
@settings(max_examples=60, deadline=None)
def test_rows_keep_their_side_and_part_when_rows_are_added(old, new, fraction, sample):
    common: dict[str, Any] = {"validation": {"fraction": fraction}}
    with tempfile.TemporaryDirectory() as folder:
        before, after = (prepared(folder, pairs, **common) for pairs in (old, new + old))
        if before is None or after is None:
            return
        # Of so little, something else is held out than the fraction says, and that is noted.
        little = ("fraction of", "one document", "say the same")
        if any(words in note for words in little for note in (*before.notes, *after.notes)):
            return
        assert set(contents(before.train.sources[0])) <= set(contents(after.train.sources[0]))
        assert set(contents(before.validation)) <= set(contents(after.validation))
        few, more = (prepared(folder, pairs, sample=sample, **common) for pairs in (old, new + old))
        taken, kept = (set(contents(one.train.sources[0])) for one in (few, more))
        known = set(contents(before.train.sources[0]))
        # What an added row pushed out is gone; nothing that was out came in.
        assert kept & known <= taken
        assert few.validation_hash == before.validation_hash
        assert more.validation_hash == after.validation_hash


@given(pairs=rows, fraction=st.sampled_from([0.0, 0.3]), sizes=st.lists(st.integers(1, 40)))
@settings(max_examples=40, deadline=None)
def test_samples_are_nested_and_scored_on_the_same_examples(pairs, fraction, sizes):
    common: dict[str, Any] = {"validation": {"fraction": fraction}}
    with tempfile.TemporaryDirectory() as folder:
        found = [prepared(folder, pairs, sample=n, **common) for n in sorted(sizes)]
        for smaller, larger in itertools.pairwise(one for one in found if one is not None):
            few, many = (Counter(contents(o.train.sources[0])) for o in (smaller, larger))
            assert few <= many
            assert smaller.validation_hash == larger.validation_hash


@given(pairs=rows, sizes=st.lists(st.integers(1, 20), min_size=1))
@settings(max_examples=40, deadline=None)
def test_validation_samples_are_nested_and_train_on_nothing_more(pairs, sizes):
    with tempfile.TemporaryDirectory() as folder:
        whole = prepared(folder, pairs, validation={"fraction": 0.5})
        if whole is None or whole.validation is None:
            return
        before: Counter[int] = Counter()
        for n in sorted(sizes):
            one = prepared(folder, pairs, validation={"fraction": 0.5, "sample": n})
            scored = Counter(contents(one.validation))
            assert before <= scored <= Counter(contents(whole.validation))
            assert sum(scored.values()) == min(n, len(whole.validation))
            assert contents(one.train.sources[0]) == contents(whole.train.sources[0])
            before = scored


class FewRows:
    """A store's document column alone."""

    def __init__(self, documents: np.ndarray) -> None:
        self.rows = {"document": documents}


def test_parts_are_even_and_independent_of_what_is_held_out_and_of_samples():
    documents = np.random.Generator(np.random.PCG64(1)).integers(0, 2**64, 40_000, np.uint64)
    store: Any = FewRows(documents)
    part = part_of_each(store, np.arange(len(documents)), 10)
    assert Counter(part.tolist()).keys() == set(range(1, 11))
    for chosen in (documents < 2**63, mix(documents, 0) < 2**63, mix(documents, 1) < 2**63):
        counts = np.bincount(part[chosen], minlength=11)[1:]
        # 2,000 expected in each, standard deviation 42.
        assert abs(counts - 2000).max() < 250
