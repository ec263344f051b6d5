"""A source is cut into pieces that fit in memory, and a file that goes away is named."""

from __future__ import annotations

import gzip

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


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", ["jsonl", "txt"])
@pytest.mark.parametrize(
    ("content", "said"),
    [("", "is empty; put"), ("\n \n\u00a0\r\n", "is empty: its 3 lines are blank")],
)
def test_a_later_file_without_rows_is_refused_by_its_name(write, packed, kind, content, said):
    row = '{"text": "a"}\n' if kind == "jsonl" else "It was night.\n"
    write(f"d/a.{kind}", row)
    name = f"d/b.{kind}" + (".gz" if packed else "")
    raw = content.encode()
    write(name, gzip.compress(raw) if packed else raw)
    units = ["auto"] if kind == "jsonl" else ["auto", "line"]
    for unit in units:
        with pytest.raises(DataError, match=rf"b\.{kind}(\.gz)? {said}"):
            cut(write(f"d/a.{kind}", row).parent, document=unit)


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("kind", ["jsonl", "txt"])
def test_a_line_of_any_kind_of_space_is_no_row(write, ending, kind):
    lines = ['{"text": "a"}', "\u00a0", "\u2003\u00a0", '{"text": "b"}']
    raw = ("\u00a0\n" + "\n".join(lines)).encode()
    path = write(f"a.{kind}{ending}", gzip.compress(raw) if ending else raw)
    located, found, source, pieces = cut(path, document="line")
    readers = [PieceReader(Reader(located, found, source, "cpt"), piece) for piece in pieces]
    assert [read.row for reader in readers for read in reader.examples()] == [2, 5]
    assert sum(reader.blank_lines for reader in readers) == 3


def test_a_file_of_separators_alone_holds_no_document(write):
    path = write("d/b.txt", "<|endoftext|>\n\n<|endoftext|>\n")
    write("d/a.txt", "It was night.\n")
    with pytest.raises(DataError, match=r"b\.txt holds separator lines and no document"):
        cut(path.parent)
