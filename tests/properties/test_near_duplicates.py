"""Near-duplicate recall and precision on planted copies, and what must not change the outcome."""

from __future__ import annotations

import random
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunebook.data.filters import build_filters
from tunebook.data.filters.chain import NEVER, Chain
from tunebook.data.filters.exact_duplicate import ExactDuplicate
from tunebook.data.filters.near_duplicate import NearDuplicate, choose_rows_per_band
from tunebook.records import Example, Message

MARGIN = 0.1
"""At this much above the threshold nearly every pair must be found."""


def example(words: list[str]) -> Example:
    return Example("x#1", "x", (Message("text", " ".join(words)),))


def keys_of(judge: NearDuplicate, rows: list[list[str]]) -> np.ndarray:
    return np.array([judge.key(example(row)) for row in rows], dtype=np.uint64)


def jaccard(one: list[str], other: list[str], size: int) -> float:
    def shingles(words: list[str]) -> set[tuple[str, ...]]:
        return {tuple(words[i : i + size]) for i in range(len(words) - size + 1)}

    a, b = shingles(one), shingles(other)
    return len(a & b) / len(a | b)


def changed(words: list[str], share: float, generator: random.Random) -> list[str]:
    copy = list(words)
    for place in generator.sample(range(len(copy)), max(1, round(share * len(copy)))):
        copy[place] = f"new{generator.randrange(10**9)}"
    return copy


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    threshold=st.sampled_from([0.5, 0.6, 0.7, 0.8]),
    size=st.sampled_from([1, 2, 3, 5]),
)
def test_planted_copies_are_found_and_unrelated_rows_are_never_dropped(
    seed: int, threshold: float, size: int
) -> None:
    generator = random.Random(seed)
    vocabulary = [f"w{i}" for i in range(3000)]
    originals = [
        [generator.choice(vocabulary) for _ in range(generator.randint(30, 200))]
        for _ in range(120)
    ]
    copies = [changed(row, generator.uniform(0.02, 0.10), generator) for row in originals]
    judge = NearDuplicate(threshold=threshold, size=size)
    found = judge.repeats(keys_of(judge, [*originals, *copies]))
    assert not found[: len(originals)].any()
    similarity = np.array([jaccard(a, b, size) for a, b in zip(originals, copies, strict=True)])
    sure = similarity >= threshold + MARGIN
    if sure.sum() >= 20:
        assert found[len(originals) :][sure].mean() >= 0.95
    # 0.2 below is over four standard errors away: nothing there may be taken for a copy.
    assert not found[len(originals) :][similarity <= threshold - 0.2].any()


def test_recall_and_precision_of_the_defaults_on_ten_thousand_rows() -> None:
    generator = random.Random(1)
    vocabulary = [f"w{i}" for i in range(3000)]
    originals = [[generator.choice(vocabulary) for _ in range(60)] for _ in range(8000)]
    copies = [changed(generator.choice(originals), 1 / 60, generator) for _ in range(2000)]
    judge = NearDuplicate()
    rows = [*originals, *copies]
    found = judge.repeats(keys_of(judge, rows))
    assert not found[:8000].any()
    assert found[8000:].mean() >= 0.95


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), cuts=st.lists(st.integers(0, 60), max_size=4))
def test_the_outcome_does_not_depend_on_how_rows_are_cut_into_pieces(
    seed: int, cuts: list[int]
) -> None:
    generator = random.Random(seed)
    rows = [
        [generator.choice("abcdef") for _ in range(generator.randint(1, 12))] for _ in range(60)
    ]
    whole = NearDuplicate(threshold=0.6)
    keys = keys_of(whole, rows)
    parts = []
    for start, stop in zip([0, *sorted(cuts)], [*sorted(cuts), len(rows)], strict=True):
        # A fresh filter per piece, as in another process.
        judge = build_filters([{"near_duplicate": {"threshold": 0.6}}])[0].judge
        assert isinstance(judge, NearDuplicate)
        parts.append(keys_of(judge, rows[start:stop]).reshape(-1, judge.width))
    assert np.array_equal(np.concatenate(parts), keys)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n_more=st.integers(0, 30))
def test_rows_added_at_the_end_change_nothing_before_them(seed: int, n_more: int) -> None:
    generator = random.Random(seed)
    rows = [[generator.choice("abcd") for _ in range(generator.randint(1, 9))] for _ in range(80)]
    judge = NearDuplicate(threshold=0.5)
    keys = keys_of(judge, rows)
    kept = len(rows) - n_more
    assert np.array_equal(judge.repeats(keys)[:kept], judge.repeats(keys[:kept]))


def test_a_crowd_of_equal_rows_keeps_one_and_takes_no_time() -> None:
    judge = NearDuplicate()
    one = keys_of(judge, [["all", "the", "same", "again"]])
    found = judge.repeats(np.repeat(one, 200_000, axis=0))
    assert found.sum() == 199_999
    assert not found[0]


def test_keys_in_a_file_are_compared_without_a_copy_of_all_of_them(tmp_path) -> None:
    judge = NearDuplicate()
    n_rows = 100_000
    drawn = np.random.default_rng(1).integers(0, 2**64, (n_rows, judge.width), dtype=np.uint64)
    drawn[-1] = drawn[7]
    drawn.tofile(tmp_path / "keys")
    keys = np.memmap(tmp_path / "keys", dtype=np.uint64, mode="r", shape=drawn.shape)
    chain = Chain([judge, NearDuplicate()], ["near_duplicate", "near_duplicate"])
    del drawn
    for dropped_before in (0, 1):
        at = np.full(n_rows, NEVER, dtype=np.int16)
        at[:dropped_before] = -1
        tracemalloc.start()
        found = chain.resolve(at, [keys, keys])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert np.flatnonzero(found == 0).tolist() == [n_rows - 1]
        # All keys are 128 bytes a row.
        assert peak / n_rows < 50


def test_rows_dropped_before_are_nobodys_original() -> None:
    for judge in (NearDuplicate(), ExactDuplicate()):
        keys = np.ones((4, judge.width), dtype=np.uint64)
        chain = Chain([judge], ["memory"])
        at = np.array([-1, NEVER, -1, NEVER], dtype=np.int16)
        assert chain.resolve(at, [keys]).tolist() == [-1, NEVER, -1, 0]


def test_a_copy_is_found_though_unlike_rows_crowd_one_of_its_bands() -> None:
    judge = NearDuplicate()
    keys = np.random.default_rng(1).integers(0, 2**64, (500, judge.width), dtype=np.uint64)
    keys[:, 0] = 5
    keys[-1] = keys[-2]
    assert np.flatnonzero(judge.repeats(keys)).tolist() == [499]


def test_no_rows_are_no_near_duplicates() -> None:
    judge = NearDuplicate()
    assert judge.repeats(np.zeros((0, judge.width), dtype=np.uint64)).tolist() == []


@pytest.mark.parametrize("permutations", [64, 128, 256])
@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.8, 0.9, 1.0])
def test_bands_find_nine_in_ten_at_the_threshold(threshold: float, permutations: int) -> None:
    rows = choose_rows_per_band(threshold, permutations)
    bands = permutations // rows
    assert 1 <= rows <= 8
    assert 1 - (1 - threshold**rows) ** bands >= 0.9


@pytest.mark.parametrize(("similarity", "stated"), [(0.7, 0.61), (0.8, 0.95), (0.9, 0.9999)])
def test_rows_share_a_band_as_often_as_the_stated_curve_says(
    similarity: float, stated: float
) -> None:
    judge = NearDuplicate(size=1)
    assert (judge.rows_per_band, judge.width) == (8, 16)
    n_pairs, shared = 600, round(400 * similarity / (1 + similarity))
    pairs = []
    for pair in range(n_pairs):
        words = [f"p{pair}w{i}" for i in range(400 - shared)]
        pairs += [words[:200], words[-200:]]
    keys = keys_of(judge, pairs)
    found = (keys[0::2] == keys[1::2]).any(axis=1).mean()
    assert found == pytest.approx(stated, abs=0.07)
