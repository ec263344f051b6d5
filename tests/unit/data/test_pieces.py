"""A source is cut into pieces that fit in memory, and a file that goes away is named."""

from __future__ import annotations

import pytest

from tunebook.data.detect import detect
from tunebook.data.examples import Reader
from tunebook.data.pieces import PieceReader, Span, count_lines_before, cut_pieces
from tunebook.data.sources import locate
from tunebook.errors import DataError
from tunebook.recipe.tree import Source


def cut(path, **settings):
    source = Source(path=str(path), **settings)
    located = locate(source.path)
    found = detect(located, source)
    return located, found, source, list(cut_pieces(located, found.format, source))


@pytest.mark.parametrize("name", ["a.json", "a.parquet"])
def test_long_talks_are_cut_by_what_is_said_in_them(write, tmp_path, monkeypatch, name):
    monkeypatch.setattr("tunebook.data.pieces.PIECE_BYTES", 100_000)
    talk = [{"role": "user", "content": "Why? " * 2000}, {"role": "assistant", "content": "So."}]
    rows = [{"messages": talk} for _ in range(50)]
    if name == "a.json":
        path = write(name, rows)
    else:
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow.parquet import write_table

        path = tmp_path / name
        write_table(pyarrow.Table.from_pylist(rows), path)
    pieces = cut(path)[3]
    assert [len(piece.found) for piece in pieces] == [10] * 5


def test_a_source_that_goes_away_is_named_wherever_it_is_read(write):
    path = write("a.jsonl", [{"text": "a"}, {"text": "b"}])
    located, found, source, pieces = cut(path)
    path.unlink()
    gone = r"a\.jsonl cannot be read: No such file"
    with pytest.raises(DataError, match=gone):
        list(cut_pieces(located, found.format, source))
    with pytest.raises(DataError, match=gone):
        list(PieceReader(Reader(located, found, source, "cpt"), pieces[0]).examples())
    with pytest.raises(DataError, match=gone):
        count_lines_before(Span(path, 5, 9, None))
