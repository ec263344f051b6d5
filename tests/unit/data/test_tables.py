"""Tables, keyed and large JSON, and data sets of the hub are read row by row."""

from __future__ import annotations

import csv
import gzip
import json
import sys
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tunebook.data.detect import detect
from tunebook.data.examples import Reader
from tunebook.data.rows import read_rows
from tunebook.data.sources import hash_files, locate
from tunebook.data.tables import cut_batch
from tunebook.errors import DataError
from tunebook.recipe.extend import resolve_paths
from tunebook.recipe.hub_path import may_be_hub_data
from tunebook.recipe.tree import Source

QA = [{"question": f"q{i}", "answer": f"a{i}"} for i in range(600)]


def rows(path):
    return [dict(row.values) for file in locate(str(path)).files for row in read_rows(file)]


def examples(path, stage="sft", **settings):
    source = Source(path=str(path), **settings)
    located = locate(source.path)
    return [r.example for r in Reader(located, detect(located, source), source, stage).examples()]


# --- csv and tsv --------------------------------------------------------------------------------


def test_quoted_fields_hold_commas_quotes_and_line_ends(write):
    path = write("a.csv", 'question,answer\r\n"a, ""b""\nc",d\r\n\r\ne,\r\n')
    assert rows(path) == [
        {"question": 'a, "b"\nc', "answer": "d"},
        {"question": "e", "answer": ""},
    ]
    assert [e.id for e in examples(path)] == ["a#1", "a#2"]


def test_tabs_separate_the_fields_of_a_tsv(write):
    path = write("a.tsv.gz", gzip.compress(b"question\tanswer\na,b\tc\n"))
    assert rows(path) == [{"question": "a,b", "answer": "c"}]


def test_a_field_may_be_longer_than_the_csv_module_likes(write):
    before = csv.field_size_limit(1000)
    try:
        path = write("a.csv", "question,answer\nq," + "x" * 300_000 + "\n")
        assert len(rows(path)[0]["answer"]) == 300_000
    finally:
        csv.field_size_limit(before)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("0,hope\n1,love\n", r"the first line must name the columns, and '0' is no name"),
        ("a,a\nx,y\n", r"the first line must name the columns, and 'a' is no name of its own"),
        ("question;answer\nq;a\n", r"'question;answer' has no comma; save it with commas"),
        ("question,answer\n", r"a\.csv holds no rows"),
        (
            "question,answer\nq,a\nq\n",
            r"row 2 \(line 3\) has 1 field, and the first line names 2",
        ),
        (
            'question,answer\nq,a\nq,"a\nb\n',
            r"row 2 \(from line 3\) is not valid csv: .*quotation mark that is not closed",
        ),
        ('question,answer\nq,"a"b\n', r"row 1 \(from line 2\) is not valid csv"),
        (b"question,answer\nq,\xe9\n", r"not UTF-8: line 2, byte 18 is 0xe9"),
    ],
)
def test_a_mistake_in_a_table_is_one_sentence(write, content, message):
    with pytest.raises(DataError, match=message) as caught:
        rows(write("a.csv", content))
    assert "\n" not in str(caught.value)


# --- parquet ------------------------------------------------------------------------------------


def test_parquet_is_read_in_batches_and_detected(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist(QA), path, row_group_size=100)
    assert rows(path) == QA
    assert examples(path)[-1].id == "a#600"


def test_nested_columns_of_parquet_are_lists_of_turns(tmp_path):
    path = tmp_path / "a.parquet"
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    pq.write_table(pa.Table.from_pylist([{"messages": turns}]), path)
    assert [m.content for m in examples(path)[0].messages] == ["a", "b"]


def test_large_rows_of_a_table_are_made_a_few_at_a_time(monkeypatch):
    batch = pa.RecordBatch.from_pylist([{"text": "word " * 200}] * 100)
    assert [part.num_rows for part in cut_batch(batch)] == [100]
    monkeypatch.setattr("tunebook.data.tables._BATCH_BYTES", 10_000)
    sizes = [part.num_rows for part in cut_batch(batch)]
    assert sum(sizes) == 100
    assert max(sizes) < 10
    monkeypatch.setattr("tunebook.data.tables._BATCH_BYTES", 10)
    assert [part.num_rows for part in cut_batch(batch)] == [1] * 100


def test_a_parquet_without_the_columns_names_what_it_has(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist([{"when": 1, "who": "x"}]), path)
    with pytest.raises(DataError, match=r"row 1: no known format has the keys when, who;"):
        examples(path)
    with pytest.raises(DataError, match=r"the row has no 'question' and no 'answer'; it has when"):
        examples(path, format="qa")


def test_a_value_of_another_type_is_named(tmp_path):
    path = tmp_path / "a.parquet"
    values = [{"question": "q", "answer": Decimal("1.5")}]
    pq.write_table(pa.Table.from_pylist(values), path)
    with pytest.raises(DataError, match=r"row 1: answer is a Decimal, not a text"):
        examples(path)


def test_a_damaged_or_packed_parquet_is_named(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist(QA), path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"a\.parquet is damaged or no parquet file"):
        rows(path)
    packed = tmp_path / "b.parquet.gz"
    packed.write_bytes(b"")
    with pytest.raises(DataError, match="parquet compresses by itself"):
        rows(packed)


def test_parquet_without_rows_is_named(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), path)
    with pytest.raises(DataError, match=r"a\.parquet holds no rows"):
        rows(path)


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist(QA), path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"needs pyarrow; pip install 'tunebook\[parquet\]'"):
        rows(path)


# --- json ---------------------------------------------------------------------------------------


def test_an_object_of_id_to_row_is_a_list_of_rows(write):
    assert rows(write("a.json", json.dumps({"x": QA[0], "y": QA[1]}))) == QA[:2]


@pytest.mark.parametrize("shape", ["list", "object"])
def test_a_large_json_is_read_row_by_row(write, monkeypatch, shape):
    content = QA if shape == "list" else {str(i): row for i, row in enumerate(QA)}
    path = write("a.json", "\ufeff \n" + json.dumps(content, indent=1))
    whole = rows(path)
    monkeypatch.setattr("tunebook.data.json_rows.MAX_ROW_BYTES", 1000)
    monkeypatch.setattr("tunebook.data.json_rows._BLOCK_BYTES", 700)
    assert rows(path) == whole == QA


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (json.dumps(QA)[:-500], r"a\.json is not valid JSON: .*"),
        (json.dumps(QA) + "]", r"a\.json is not valid JSON"),
        ('"' + "x" * 2000 + '"', r"a\.json is no list of rows"),
        (json.dumps({"data": QA}), r"'data' holds a list, not a row"),
        (json.dumps({"a": {}, "data": [QA[0]] * 9000}), r"after row 1 comes one of over 64 MiB"),
        (json.dumps([QA[0], [1] * 90_000]), r"after row 1 comes one of over 64 MiB"),
        (json.dumps({"a": {}, "data": QA}), r"'data' holds a list, not a row"),
        ("\n".join(json.dumps(row) for row in QA), r"holds one object per line; rename it"),
        (json.dumps([*QA, 3]), r"row 601 is a number, not an object"),
        (json.dumps(QA).encode() + b"\xff", r"not UTF-8: line 1, byte \d+ is 0xff"),
        (json.dumps(QA[:100]).encode() + b"\0", r"line 1, byte \d+ is NUL"),
        ("[" * 3000, r"a\.json is not valid JSON"),
    ],
)
def test_a_mistake_in_a_large_json_is_one_sentence(write, monkeypatch, content, message):
    monkeypatch.setattr("tunebook.data.json_rows.MAX_ROW_BYTES", 1000)
    monkeypatch.setattr("tunebook.data.json_rows._BLOCK_BYTES", 700)
    path = write("a.json", content)
    with pytest.raises(DataError, match=message) as caught:
        rows(path)
    assert "\n" not in str(caught.value)


def test_a_large_list_inside_an_object_is_refused_before_it_is_read(write, monkeypatch):
    monkeypatch.setattr("tunebook.data.json_rows.MAX_ROW_BYTES", 1000)
    asked = []
    monkeypatch.setattr("ijson.kvitems", lambda *given, **more: asked.append(given))
    with pytest.raises(DataError, match=r"'da\"ta' holds a list, not a row; .*write that list"):
        rows(write("a.json", json.dumps({'da"ta': QA})))
    assert not asked


@pytest.mark.parametrize("opening", ['[{"text": "', '{"id": {"text": "'])
def test_a_row_that_is_too_long_is_refused_after_few_reads(write, monkeypatch, opening):
    monkeypatch.setattr("tunebook.data.json_rows.MAX_ROW_BYTES", 4 << 20)
    monkeypatch.setattr("tunebook.data.json_rows._BLOCK_BYTES", 4096)
    from tunebook.data.json_rows import _Chained

    reads = []
    really = _Chained.read

    def counted(self, size):
        reads.append(len(given := really(self, size)))
        return given

    monkeypatch.setattr(_Chained, "read", counted)
    with pytest.raises(DataError, match="after row 0 comes one of over 64 MiB"):
        rows(write("a.json", opening + "a" * (6 << 20) + '"}]'))
    # Each read is parsed with all that came before it of the same text.
    assert len(reads) < 30
    assert sum(reads) < 5 << 20


def test_a_list_inside_an_object_is_pointed_at(write):
    with pytest.raises(DataError, match=r"holds an object, not a list.*under 'data', perhaps"):
        rows(write("a.json", json.dumps({"version": 1, "data": QA})))


# --- the hub ------------------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub with one data set, and a list of what was asked of it."""
    import datasets

    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in QA))
    load, asked = datasets.load_dataset, []

    def load_dataset(name, *, revision, split):
        asked.append((name, revision, split))
        return load(str(folder), split=split, cache_dir=str(tmp_path / "cache"))

    datasets.disable_progress_bars()
    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    yield asked
    datasets.enable_progress_bars()


def test_a_data_set_of_the_hub_is_read_from_its_cache(hub):
    located = locate("hub:someone/questions@main:train")
    assert (located.name, located.kind) == ("questions", "arrow")
    assert [dict(row.values) for row in read_rows(located.files[0])] == QA
    assert len(hash_files(located)) == 64
    got = examples("someone/questions")
    assert (got[0].id, len(got)) == ("questions#1", 600)
    assert hub == [("someone/questions", "main", "train"), ("someone/questions", None, "train")]


def test_a_split_that_is_not_there_is_named(hub):
    with pytest.raises(DataError, match=r"hub:someone/questions:nope: .*Unknown split"):
        locate("hub:someone/questions:nope")


def test_a_slice_of_a_split_is_refused_with_the_way_out(hub):
    with pytest.raises(DataError, match="take a part of a split with `sample:`"):
        locate("hub:someone/questions:train[:10%]")


@pytest.mark.parametrize("name", ["../keys", "text", "/keys", "org/../../keys", ".keys/a"])
def test_no_folder_of_this_machine_is_read_as_one_of_the_hub(hub, name):
    with pytest.raises(DataError, match="is no data set of the hub"):
        locate(f"hub:{name}")
    assert hub == []


def test_a_folder_here_does_not_stand_for_the_hub(hub, tmp_path, monkeypatch):
    (tmp_path / "someone/questions").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="datasets would read that in the place of the hub's"):
        locate("hub:someone/questions")
    assert hub == []


def test_without_network_one_sentence_says_so():
    with pytest.raises(DataError, match=r"the hub cannot be reached .*unset HF_HUB_OFFLINE") as one:
        locate("hub:someone/questions")
    assert "\n" not in str(one.value)
    with pytest.raises(DataError, match="there is no file or folder of that name, and the hub"):
        locate("someone/questions")


def test_without_datasets_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"needs datasets; pip install 'tunebook\[hub\]'"):
        locate("hub:someone/questions")


def test_an_id_of_the_hub_is_told_from_a_path(tmp_path):
    assert may_be_hub_data("org/name")
    assert may_be_hub_data("org/name-v1.5@abc:test")
    for path in ("data/a.json", "data/a.txt.gz", "./data", "name", "a/b/c", "data/*.json", "/a/b"):
        assert not may_be_hub_data(path)
    (tmp_path / "data" / "books").mkdir(parents=True)
    values = {"data": [{"path": p} for p in ("org/name", "hub:org/name", "data/books", "a.json")]}
    resolve_paths(values, tmp_path)
    assert [source["path"] for source in values["data"]] == [
        "org/name",
        "hub:org/name",
        str(tmp_path / "data" / "books"),
        str(tmp_path / "a.json"),
    ]
