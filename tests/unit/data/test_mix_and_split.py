"""Samples, parts and mixtures of a recipe, and `tunebook data mix` and `data split`."""

from __future__ import annotations

import json
import os

import pytest
from click.testing import CliRunner

from tunebook.cli.data import mix as mix_verb
from tunebook.cli.data import split as split_verb
from tunebook.data.prepare import prepare
from tunebook.errors import DataError, UsageError
from tunebook.recipe.tree import Recipe


@pytest.fixture
def ready(tmp_path, codec):
    """Give a function that prepares a recipe made of what is given and the defaults."""

    def run(path, *, say=None, **settings):
        data = settings.pop("data", [{"path": str(path), **settings.pop("source", {})}])
        recipe = Recipe(name="r", model="m", data=data, **settings)
        return prepare(recipe, codec, tmp_path / "cache", say or (lambda text: None))

    return run


def qa_rows(n: int, word: str = "question") -> list[object]:
    return [{"prompt": f"{word} {i}", "completion": f"answer {i}"} for i in range(n)]


def ids_of(shards) -> set[str]:
    return {shards.example(i).id for i in range(len(shards))}


# --- what is decided when tokens are read -------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"packing": True, "max_seq_len": 128}])
def test_the_target_tokens_of_a_row_are_known_without_reading_its_tokens(
    write, ready, monkeypatch, settings
):
    text = write("a.txt", "\n".join(f"line {i} " + "of words " * (i % 40) for i in range(30)))
    rows = write("b.jsonl", qa_rows(30))
    for path, stage in ((text, "cpt"), (rows, "sft")):
        train = ready(path, stage=stage, validation={"fraction": 0}, **settings).train
        read = [train.row(i) for i in range(train.rows_per_epoch)]
        counts = [[(e.tokens.id, sum(e.tokens.target[1:])) for e in row] for row in read]
        with monkeypatch.context() as patch:
            patch.setattr("tunebook.data.store.Store.tokens", None)
            assert [train.target_counts_of(i) for i in range(len(read))] == counts


def test_changing_a_mixture_tokenizes_nothing_again(write, ready, codec, monkeypatch):
    path = write("a.jsonl", qa_rows(80))
    ready(path)

    def refuse(*_args, **_kwargs):
        raise AssertionError("something was tokenized")

    monkeypatch.setattr(type(codec), "encode_flat", refuse)
    monkeypatch.setattr(type(codec), "encode", refuse)
    said: list[str] = []
    for change in (
        {"source": {"weight": 0.3}},
        {"source": {"sample": 20}},
        {"parts": 4, "part": 3},
        {"validation": {"fraction": 0.4, "sample": 5}},
        {"validation": {"fraction": 0}, "packing": True, "seed": 9},
    ):
        ready(path, say=said.append, **change)
    assert not any("tokens made" in text for text in said)
    with pytest.raises(AssertionError, match="something was tokenized"):
        ready(path, max_seq_len=99)


def test_sizes_of_a_data_size_curve_are_nested_and_scored_on_the_same_rows(write, ready):
    path = write("a.jsonl", qa_rows(200))
    curve = [ready(path, source={"sample": n}, validation={"fraction": 0.2}) for n in (3, 30, 100)]
    few, some, many = (ids_of(one.train.sources[0]) for one in curve)
    assert (len(few), len(some), len(many)) == (3, 30, 100)
    assert few < some < many
    assert len({one.validation_hash for one in curve}) == 1
    assert all(one.accounts[0].validation_rows > 20 for one in curve)


def test_a_sample_follows_content_and_seed_not_place(write, ready):
    rows = qa_rows(100)
    one, turned, other = (
        ready(write(name, content), source={"sample": 10}, seed=seed, validation={"fraction": 0})
        for name, content, seed in (
            ("a.jsonl", rows, 0),
            ("b.jsonl", rows[::-1], 0),
            ("a.jsonl", rows, 1),
        )
    )
    contents = [set(p.train.sources[0].contents.tolist()) for p in (one, turned, other)]
    assert contents[0] == contents[1] != contents[2]


def test_a_sample_of_more_rows_than_there_are_is_remarked_on(write, ready):
    path = write("a.jsonl", qa_rows(40))
    found = ready(path, source={"sample": 100000}, validation={"fraction": 0})
    assert "a: sample: 100000 asks for more rows than there are, 40" in found.notes
    some = ready(path, source={"sample": 40}, validation={"fraction": 0})
    assert not any("asks for more" in note for note in some.notes)


def test_fewer_held_out_examples_can_be_scored_and_the_rest_is_accounted_for(write, ready):
    path = write("a.jsonl", qa_rows(100))
    whole = ready(path, validation={"fraction": 0.3})
    few = ready(path, validation={"fraction": 0.3, "sample": 7}, seed=5)
    assert ids_of(few.validation) < ids_of(whole.validation)
    assert ids_of(few.train.sources[0]) == ids_of(whole.train.sources[0])
    (account,) = few.accounts
    assert account.validation_rows == 7 == len(few.validation)
    assert account.dropped == {"not in the validation sample": len(whole.validation) - 7}


def test_a_validation_file_of_its_own_is_sampled_too(write, ready):
    held = write("held.jsonl", qa_rows(50, "other"))
    prepared = ready(write("a.jsonl", qa_rows(9)), validation={"path": str(held), "sample": 4})
    assert len(prepared.validation) == 4
    assert prepared.accounts[1].dropped == {"not in the validation sample": 46}
    assert prepared.accounts[1].rows_in == 50


# --- parts --------------------------------------------------------------------------------------


def test_a_part_is_a_slice_of_the_sample_with_the_whole_held_out_set(write, ready):
    path = write("a.jsonl", qa_rows(200))
    common = {"source": {"sample": 90}, "validation": {"fraction": 0.1}}
    whole = ready(path, **common)
    found = [ready(path, parts=3, part=k, **common) for k in (1, 2, 3)]
    sides = [ids_of(one.train.sources[0]) for one in found]
    assert set.union(*sides) == ids_of(whole.train.sources[0])
    assert sum(map(len, sides)) == 90
    assert {one.validation_hash for one in found} == {whole.validation_hash}
    account = found[1].accounts[0]
    assert account.dropped["in another part"] == 90 - account.train_rows
    assert [s.rows for s in found[0].parts.slices] == [len(side) for side in sides]
    assert found[0].parts.whole.rows == 90


def test_a_source_without_rows_in_a_part_is_left_out_of_it_and_said(write, ready):
    one, two = write("a.jsonl", qa_rows(60)), write("b.jsonl", qa_rows(1, "lone"))
    data = [{"path": str(one)}, {"path": str(two)}]
    found = [ready(None, data=data, parts=2, part=k, validation={"fraction": 0}) for k in (1, 2)]
    (without,) = [p for p in found if not len(p.train.sources[1])]
    assert any("has none of its rows" in note for note in without.notes)
    assert without.train.shares[1].rows == 0
    sources = {e.source for i in range(len(without.train)) for e in without.train.row(i)}
    assert sources == {"a"}


def test_examples_too_few_for_the_parts_are_refused(write, ready):
    with pytest.raises(
        DataError, match=r"parts 9: 3 examples are too few, nothing is in \d of 9 parts; say fewer"
    ):
        ready(write("a.jsonl", qa_rows(3)), parts=9, part=1, validation={"fraction": 0})


def test_one_text_is_cut_into_parts_by_its_pieces_and_they_stay_when_it_grows(write, ready):
    text = " ".join(f"word{i}" for i in range(4000))
    common = {"stage": "cpt", "max_seq_len": 64, "validation": {"fraction": 0}, "parts": 3}
    found = [ready(write("a.txt", text), part=k, **common) for k in (1, 2, 3)]
    assert all(any("dealt out one by one" in note for note in one.notes) for one in found)
    sides = [ids_of(one.train.sources[0]) for one in found]
    whole = ids_of(ready(write("a.txt", text), **common).train.sources[0])
    assert set.union(*sides) == whole
    assert sum(map(len, sides)) == len(whole)
    account = found[1].accounts[0]
    assert account.rows_in == 1 == sum(account.dropped.values()) + account.rows_out
    assert [s.examples for s in found[0].parts.slices] == [len(side) for side in sides]
    longer = ready(write("a.txt", text + " and on" * 500), part=2, **common)
    last = max(int(i.rpartition("/")[2]) for i in whole)
    kept = {i for i in ids_of(longer.train.sources[0]) if int(i.rpartition("/")[2]) < last}
    assert kept == {i for i in sides[1] if int(i.rpartition("/")[2]) < last}


def test_an_epoch_tells_what_it_takes_of_each_source(write, ready):
    one, two = write("a.jsonl", qa_rows(10)), write("b.jsonl", qa_rows(40, "other"))
    data = [{"path": str(one), "weight": 4.0}, {"path": str(two), "weight": 0.5}]
    train = ready(None, data=data, validation={"fraction": 0}).train
    a, b = train.shares
    assert (a.name, a.rows, a.examples, b.rows, b.examples) == ("a", 40, 40, 20, 20)
    assert a.tokens == 4 * train.sources[0].lengths.sum()
    assert b.target_tokens == round(0.5 * train.sources[1].target_counts.sum())
    assert train.tokens_per_epoch == a.tokens + b.tokens


# --- the verbs ----------------------------------------------------------------------------------


@pytest.fixture
def run(monkeypatch, codec, tmp_path):
    """Give a function that calls a verb with the small tokenizer, outside a book."""
    for place in ("data_mix", "data_split"):
        monkeypatch.setattr(f"tunebook.workflows.{place}.load_tokenizer", lambda *_: codec)
    monkeypatch.chdir(tmp_path)

    def call(verb, *arguments: object):
        return CliRunner().invoke(verb.command, list(map(str, arguments)), catch_exceptions=False)

    return call


@pytest.fixture
def run_file(write):
    write("a.jsonl", qa_rows(50))
    write("b.jsonl", [*qa_rows(30, "other"), {"prompt": "x", "completion": " "}])
    values = {
        "name": "r",
        "model": "m",
        "data": [{"path": "a.jsonl", "weight": 2}, {"path": "b.jsonl", "sample": 10}],
        "validation": {"fraction": 0.2},
    }
    return write("r.yaml", json.dumps(values))


def test_mix_prints_where_rows_go_and_what_an_epoch_takes(run, run_file):
    result = run(mix_verb, run_file, "data.0.weight=3", "parts=2")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].split() == [
        "source",
        "rows",
        "in",
        "dropped",
        "left",
        "aside",
        "train",
        "held",
        "out",
        "documents",
    ]
    (b_line,) = [line.split() for line in lines if line.startswith("b  ")][:1]
    assert b_line[1:3] == ["31", "1"]
    assert int(b_line[3]) > 0
    assert any(line.startswith("b: 1 empty answer, ") for line in lines)
    assert any(line.startswith("all ") for line in lines)
    found = json.loads(run(mix_verb, run_file, "data.0.weight=3", "--json").stdout)
    a, b = found["mixture"]
    assert a["weight"] == 3
    assert a["rows"] == 3 * found["sources"][0]["train_rows"]
    assert b["examples"] == 10
    assert a["share_of"]["examples"] + b["share_of"]["examples"] == pytest.approx(1)
    assert a["packing_efficiency"] is None


def test_mix_tells_how_full_packed_rows_are(run, run_file):
    found = json.loads(run(mix_verb, run_file, "packing=true", "max_seq_len=64", "--json").stdout)
    for share in found["mixture"]:
        assert 0 < share["packing_efficiency"] <= 1
        filled = share["tokens"] / share["rows"] / 64
        assert share["packing_efficiency"] == pytest.approx(filled)


def test_mix_says_when_rows_may_be_longer_than_the_model_reads(run, run_file):
    long = run(mix_verb, run_file, "model=tunebook/tiny", "max_seq_len=1024")
    assert "max_seq_len 1024: tunebook/tiny reads at most 512 tokens" in long.stderr
    assert "say max_seq_len: 512" in long.stderr
    short = run(mix_verb, run_file, "model=tunebook/tiny", "max_seq_len=512")
    assert "reads at most" not in short.stderr


def test_split_counts_every_row_and_writes_each_side_once(run, write, tmp_path):
    rows = qa_rows(60)
    path = write("a.jsonl", rows)
    result = run(split_verb, path, "--fraction", 0.2, "--parts", 3, "--out", tmp_path / "out")
    assert result.exit_code == 0
    assert "60 rows in: 60 used, 0 dropped" in result.stdout
    assert "in more than one part: 0" in result.stdout
    written = {p.name: p.read_text().splitlines() for p in (tmp_path / "out").iterdir()}
    assert sorted(written) == [
        "a-part-1.jsonl", "a-part-2.jsonl", "a-part-3.jsonl", "a-validation.jsonl",
    ]  # fmt: skip
    together = [json.loads(line) for lines in written.values() for line in lines]
    assert sorted(map(str, together)) == sorted(map(str, rows))
    shown = json.loads(run(split_verb, path, "--fraction", 0.2, "--parts", 3, "--json").stdout)
    assert {s["name"]: s["rows"] for s in shown["sides"]} == {
        name.removeprefix("a-").removesuffix(".jsonl").replace("-", " "): len(lines)
        for name, lines in written.items()
    }
    with pytest.raises(UsageError, match="is there already"):
        run(split_verb, path, "--out", tmp_path / "out")


def test_split_of_a_run_file_is_that_of_its_run(run, run_file, tmp_path):
    result = run(split_verb, run_file, "--out", "out", "--json")
    found = json.loads(result.stdout)
    mixed = json.loads(run(mix_verb, run_file, "--json").stdout)
    sides = {side["name"]: side["rows"] for side in found["sides"]}
    assert sides["train"] == sum(s["train_rows"] for s in mixed["sources"])
    assert sides["validation"] == sum(s["validation_rows"] for s in mixed["sources"])
    assert found["rows_in"] == 81 == sum(sides.values()) + sum(found["dropped"].values())
    assert len((tmp_path / "out" / "b-train.jsonl").read_text().splitlines()) == 10


def test_split_tells_of_contents_on_both_sides(run, write):
    for name in "abcd":
        write(f"d/{name}.jsonl", qa_rows(5))
    found = json.loads(
        run(split_verb, "d", "--document", "file", "--fraction", 0.5, "--json").stdout
    )
    assert found["held_out_and_trained"] > 0


def test_a_row_with_a_side_for_each_of_its_ends_is_not_written(run, write, tmp_path):
    text = " ".join(f"word{i}" for i in range(3000))
    path = write("a.txt", text)
    shown = json.loads(run(split_verb, path, "--parts", 3, "--json").stdout)
    assert (shown["held_out_and_trained"], shown["in_several_parts"]) == (0, 0)
    with pytest.raises(DataError, match="is on several sides"):
        run(split_verb, path, "--out", "out")
    assert os.listdir(tmp_path / "out") == []


def test_a_split_knows_the_sides_of_many_rows_of_one_document(run, write, tmp_path):
    rows = [{"prompt": f"p{i}", "completion": "c"} for i in range(20)]
    path = write("a.jsonl", rows)
    run(split_verb, path, "--document", "file", "--fraction", 0.25, "--out", "out")
    for side, expected in (("validation", rows[-5:]), ("train", rows[:-5])):
        lines = (tmp_path / "out" / f"a-{side}.jsonl").read_text().splitlines()
        found = [json.loads(line) for line in lines]
        assert len({row.pop("document") for row in found}) == 1
        assert found == expected


def test_a_sample_counts_the_windows_of_a_long_text_as_one(write, ready):
    rows = [{"text": " ".join(f"word{i}x{k}" for k in range(200))} for i in range(9)]
    path = write("a.jsonl", rows)
    common = {"stage": "cpt", "max_seq_len": 64, "validation": {"fraction": 0}}
    found = ready(path, source={"sample": 4, "document": "row"}, **common)
    assert found.accounts[0].train_rows == 4
    assert len(found.train.sources[0]) > 4
