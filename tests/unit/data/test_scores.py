"""The file of scores: added to, read back, gone on with after a kill, refused when it differs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tunebook.data.filters import build_filters
from tunebook.data.score_chunks import batches_of_chunks, cut_chunks
from tunebook.data.scores import Score, ScoreWriter, read_scores
from tunebook.errors import DataError

HEADER = {"model": "tiny", "max_tokens": 512}
ROWS = [Score("a#1", 7, 1.5, 10), Score("a#2", 2**64 - 1, None, 0), Score("a#3", 3, 2.25, 4)]


def cut(n_tokens: int, *, max_tokens: int = 10, n_chunks: int = 100, seed: int = 0, targets=None):
    target = np.ones(n_tokens, dtype=bool) if targets is None else targets
    target[0] = False
    ids = np.arange(n_tokens)
    return cut_chunks(0, ids, target, max_tokens=max_tokens, n_chunks=n_chunks, seed=seed)


def test_what_is_written_is_found_by_what_a_row_says(tmp_path) -> None:
    path = tmp_path / "s.jsonl"
    with ScoreWriter(path, HEADER) as writer:
        writer.add(ROWS[:1])
        writer.add(ROWS[1:])
    found = read_scores(str(path))
    assert found.find(7) == 1.5
    assert found.find(3) == 2.25
    assert math.isnan(found.find(2**64 - 1))
    assert found.find(8) is None
    assert (len(found.by_row), found.target_tokens) == (3, 14)


def test_a_file_cut_off_in_a_line_goes_on_from_its_last_whole_line(tmp_path) -> None:
    path = tmp_path / "s.jsonl"
    with ScoreWriter(path, HEADER) as writer:
        writer.add(ROWS)
    whole = path.read_bytes()
    for n_bytes in (len(whole) - 1, len(whole) - 20):
        path.write_bytes(whole[:n_bytes])
        assert len(read_scores(str(path)).by_row) == 2
        with ScoreWriter(path, HEADER) as writer:
            assert writer.written == 2
            writer.add(ROWS[2:])
        assert path.read_bytes() == whole


def test_a_file_of_which_only_half_the_header_was_written_starts_anew(tmp_path) -> None:
    path = tmp_path / "s.jsonl"
    path.write_bytes(b'{"kind": "tunebook sc')
    with pytest.raises(DataError, match="holds no scores"), ScoreWriter(path, HEADER):
        pass


def test_scores_under_other_settings_are_never_mixed(tmp_path) -> None:
    path = tmp_path / "s.jsonl"
    with ScoreWriter(path, HEADER) as writer:
        writer.add(ROWS)
    before = path.read_bytes()
    with (
        pytest.raises(DataError, match="begun with max_tokens 512, and this is max_tokens 64"),
        ScoreWriter(path, {**HEADER, "max_tokens": 64}),
    ):
        pass
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", ["", "text\n", '{"kind": "other"}\n', "[1]\n", "\xff\n"])
def test_a_file_that_is_no_scores_is_refused(tmp_path, content: str) -> None:
    path = tmp_path / "s.jsonl"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(DataError, match="holds no scores of `tunebook data score`"):
        read_scores(str(path))


def test_a_damaged_line_is_named(tmp_path) -> None:
    path = tmp_path / "s.jsonl"
    with ScoreWriter(path, HEADER) as writer:
        writer.add(ROWS)
    path.write_bytes(path.read_bytes().replace(b'"loss":1.5', b'"loss":"x"'))
    with pytest.raises(DataError, match="line 2 is no score"):
        read_scores(str(path))


def test_other_scores_are_another_cache_key(tmp_path) -> None:
    path = tmp_path / "s.jsonl"
    spec = [{"loss_band": {"scores": str(path)}}]
    with ScoreWriter(path, HEADER) as writer:
        writer.add(ROWS[:2])
    before = build_filters(spec)[0].fingerprint
    assert build_filters(spec)[0].fingerprint == before
    with ScoreWriter(path, HEADER) as writer:
        writer.add(ROWS[2:])
    assert build_filters(spec)[0].fingerprint != before


def test_chunks_of_a_row_count_every_target_token_once() -> None:
    for n_tokens in (2, 9, 10, 11, 19, 20, 28, 100):
        chunks = cut(n_tokens)
        counted = np.concatenate([chunk.ids[chunk.target] for chunk in chunks])
        assert counted.tolist() == list(range(1, n_tokens))
        assert all(len(chunk.ids) <= 10 and not chunk.target[0] for chunk in chunks)


def test_of_a_long_row_the_same_chunks_are_drawn_every_time() -> None:
    one, same, other = (cut(5000, n_chunks=16, seed=seed) for seed in (1, 1, 2))
    assert len(one) == 16
    assert [c.ids[0] for c in one] == [c.ids[0] for c in same]
    assert [c.ids[0] for c in one] != [c.ids[0] for c in other]


def test_chunks_without_a_target_are_not_drawn() -> None:
    targets = np.zeros(1000, dtype=bool)
    targets[902:907] = True
    (chunk,) = cut(1000, n_chunks=1, targets=targets)
    assert chunk.target.sum() == 5


def test_batches_hold_every_chunk_within_their_size() -> None:
    chunks = [chunk for n in (3, 30, 7, 25) for chunk in cut(n, max_tokens=10)]
    batches = list(batches_of_chunks(chunks, 20))
    assert sum(len(batch.lengths) for batch in batches) == len(chunks)
    assert all(len(batch.ids) <= 20 for batch in batches)
    for batch in batches:
        assert not batch.target[batch.positions == 0].any()


def test_scores_named_in_a_run_file_count_from_its_folder(tmp_path) -> None:
    from tunebook.recipe.extend import resolve_paths

    settings: dict[str, object] = {"scores": "s.jsonl", "low": 1}
    values = {"data": [{"path": "a.txt", "filters": ["markup", {"loss_band": settings}]}]}
    resolve_paths(values, tmp_path)
    assert settings == {"scores": str(tmp_path / "s.jsonl"), "low": 1}
