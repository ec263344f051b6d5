"""A recipe's data from files to batches: accounts, splits, cache, order, prompts."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest

from tunebook.data.batches import collate, validation_batches
from tunebook.data.order import TrainSet
from tunebook.data.prepare import NO_VALIDATION, prepare, render_prompt, sample_prompts
from tunebook.errors import DataError, RunFileError, StorageError
from tunebook.recipe.tree import Recipe


@pytest.fixture
def ready(tmp_path, codec):
    """Give a function that prepares a recipe made of what is given and the defaults."""

    def run(path, *, say=None, codec=codec, **settings):
        source = settings.pop("source", {})
        data = settings.pop("data", [{"path": str(path), **source}])
        recipe = Recipe(name="r", model="m", data=data, **settings)
        return prepare(recipe, codec, tmp_path / "cache", say or (lambda text: None))

    return run


def qa_rows(n: int) -> list[object]:
    return [{"prompt": f"question {i}", "completion": f"answer {i}"} for i in range(n)]


def ids_of(shards) -> list[str]:
    return [shards.example(i).id for i in range(len(shards))]


# --- accounts -----------------------------------------------------------------------------------


def test_every_row_is_accounted_for(write, ready):
    rows = [
        *qa_rows(4),
        {"prompt": "question 0", "completion": "answer 0"},
        {"prompt": "q", "completion": "  "},
        {"prompt": "", "completion": "a b"},
        {"prompt": "q", "completion": "one"},
        {"prompt": "q", "completion": "word " * 500},
    ]
    source = {"filters": ["exact_duplicate", {"short_response": {"min_words": 2}}]}
    (account,) = ready(write("a.jsonl", rows), source=source, max_seq_len=64).accounts
    assert account.rows_in == 9
    assert account.dropped == {
        "empty answer": 1,
        "empty prompt": 1,
        "exact duplicate": 1,
        "overlong": 1,
        "short response": 1,
    }
    assert account.rows_out == 4 == account.train_rows + account.validation_rows
    assert account.documents == 4


def test_cut_rows_lose_their_end_and_are_counted(write, ready):
    rows = [*qa_rows(3), {"prompt": "q", "completion": "word " * 100}]
    prepared = ready(
        write("a.jsonl", rows), overlong="cut", max_seq_len=32, validation={"fraction": 0}
    )
    (account,) = prepared.accounts
    (cut,) = [e for e in map(prepared.train.sources[0].example, range(4)) if e.cut_tokens]
    assert (account.cut_rows, account.cut_tokens) == (1, cut.cut_tokens)
    assert len(cut.ids) == 32 == prepared.longest
    assert any("1 rows were cut" in note for note in prepared.notes)


def test_a_row_whose_answer_is_cut_off_has_no_target_tokens(write, ready):
    rows = [*qa_rows(3), {"prompt": "long " * 100, "completion": "a"}]
    (account,) = ready(write("a.jsonl", rows), overlong="cut", max_seq_len=32).accounts
    assert account.dropped == {"no target tokens": 1}


def test_windows_of_a_long_text_keep_and_score_every_token_once(write, ready, codec):
    text = " ".join(f"word{i}" for i in range(200))
    prepared = ready(
        write("a.jsonl", [{"text": text}, {"text": "short"}]),
        stage="cpt",
        max_seq_len=50,
        validation={"fraction": 0},
        packing=False,
    )
    shards = prepared.train.sources[0]
    windows = [e for e in map(shards.example, range(len(shards))) if e.id.startswith("a#1/")]
    scored = [t for e in windows for t, target in zip(e.ids, e.target, strict=True) if target]
    whole = [*codec.encode(text, specials=False)[0], codec.eos_id]
    assert [windows[0].ids[0], *scored] == whole
    assert [e.id for e in windows] == [f"a#1/{n}" for n in range(1, len(windows) + 1)]
    assert all(len(e.ids) <= 50 and not e.target[0] for e in windows)
    assert sum(e.scored_bytes for e in windows) == len(text) - len(codec.decode(whole[:1]))


def test_an_idle_filter_is_said(write, ready):
    notes = ready(write("a.jsonl", qa_rows(5)), source={"filters": ["exact_duplicate"]}).notes
    assert "a: filter exact_duplicate dropped or changed nothing" in notes


def test_nothing_left_after_filters_is_an_error_with_the_account(write, ready):
    source = {"filters": [{"short_response": {"min_words": 9}}]}
    with pytest.raises(DataError, match=r"no row is left .*5 in, dropped 5 short response, 0 out"):
        ready(write("a.jsonl", qa_rows(5)), source=source)


def test_no_target_tokens_left_is_an_error_with_the_account(write, ready):
    rows = [{"messages": [{"role": "user", "content": "hello"}]}] * 3
    with pytest.raises(DataError, match=r"no row is left .*3 in, dropped 3 no target tokens"):
        ready(write("a.jsonl", rows))


def test_an_unknown_filter_is_a_mistake_in_the_run_file(write, ready):
    with pytest.raises(RunFileError, match="unknown filter"):
        ready(write("a.jsonl", qa_rows(2)), source={"filters": ["exact_dup"]})


def test_training_on_responses_of_plain_text_is_refused(write, ready):
    with pytest.raises(DataError, match="train_on: response"):
        ready(write("a.jsonl", [{"text": "x"}]), stage="cpt", train_on="response")


def test_sources_of_the_same_name_keep_their_ids_apart(write, ready):
    one, two = write("a.jsonl", qa_rows(3)), write("sub/a.jsonl", qa_rows(3))
    prepared = ready(None, data=[{"path": str(one)}, {"path": str(two)}])
    assert [a.name for a in prepared.accounts] == ["a", "a-2"]


# --- split --------------------------------------------------------------------------------------


def test_a_held_out_row_stays_held_out_when_rows_are_added(write, ready):
    few = ready(write("a.jsonl", qa_rows(100)), validation={"fraction": 0.2})
    more = ready(write("a.jsonl", qa_rows(200)), validation={"fraction": 0.2})
    first = {i for i in ids_of(more.validation) if int(i.split("#")[1]) <= 100}
    assert set(ids_of(few.validation)) == first
    assert 5 < len(few.validation) < 40


def test_changing_fraction_seed_sample_or_weight_tokenizes_nothing_again(write, ready, tmp_path):
    path = write("a.jsonl", qa_rows(50))
    ready(path, validation={"fraction": 0.1})
    ready(path, validation={"fraction": 0.3}, seed=7, source={"weight": 2.0, "sample": 20})
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_duplicates_are_on_one_side(write, ready):
    prepared = ready(write("a.jsonl", qa_rows(60) * 2), validation={"fraction": 0.3})
    train, held = prepared.train.sources[0].contents, prepared.validation.contents
    assert not np.isin(train, held).any()


def test_a_tiny_fraction_still_holds_out_one_document_and_says_so(write, ready):
    prepared = ready(write("a.jsonl", qa_rows(4)), validation={"fraction": 1e-9})
    assert len(prepared.validation) == 1
    assert any("holds out none, so one is held out" in note for note in prepared.notes)


def test_a_huge_fraction_still_keeps_one_document_and_says_so(write, ready):
    prepared = ready(write("a.jsonl", qa_rows(4)), validation={"fraction": 0.999999})
    assert prepared.train.examples_per_epoch == 1
    assert any("holds out all 4 documents, so one is kept" in note for note in prepared.notes)


def test_of_a_single_document_the_tail_is_held_out(write, ready):
    text = " ".join(f"word{i}" for i in range(2000))
    prepared = ready(
        write("a.txt", text), stage="cpt", max_seq_len=64, validation={"fraction": 0.1}
    )
    windows = [int(i.rpartition("/")[2]) for i in ids_of(prepared.validation)]
    trained = [int(i.rpartition("/")[2]) for i in ids_of(prepared.train.sources[0])]
    assert max(trained) + 1 == min(windows)
    assert any("one document: its tail is held out" in note for note in prepared.notes)


def test_copies_of_one_row_are_never_on_both_sides(write, ready):
    rows = [{"prompt": "0", "completion": "0"}] * 2
    prepared = ready(write("a.jsonl", rows), validation={"fraction": 0.1})
    assert prepared.validation is None
    assert any("all 2 rows say the same, so nothing can be held out" in n for n in prepared.notes)


def test_rows_of_one_file_document_stay_together(write, ready, tmp_path):
    for name in "abcdefgh":
        write(f"d/{name}.jsonl", [{"prompt": f"{name}{i}", "completion": "x y"} for i in range(5)])
    prepared = ready(tmp_path / "d", source={"document": "file"}, validation={"fraction": 0.4})
    held = Counter(i.partition("#")[0] for i in ids_of(prepared.validation))
    assert held
    assert set(held.values()) == {5}


def test_no_validation_is_said(write, ready):
    prepared = ready(write("a.jsonl", qa_rows(4)), validation={"fraction": 0})
    assert prepared.validation is None
    assert prepared.validation_hash is None
    assert NO_VALIDATION in prepared.notes


def test_a_validation_file_of_its_own_is_accounted(write, ready):
    held = write("held.jsonl", [*qa_rows(2), {"prompt": "new", "completion": "n"}])
    prepared = ready(write("a.jsonl", qa_rows(5)), validation={"path": str(held)})
    assert [a.name for a in prepared.accounts] == ["a", "validation:held"]
    assert prepared.accounts[1].validation_rows == 3


def test_the_validation_hash_is_of_tokens_not_of_order_or_place(write, ready):
    rows = qa_rows(6)
    one = ready(write("a.jsonl", qa_rows(3)), validation={"path": str(write("h.jsonl", rows))})
    two = ready(
        write("a.jsonl", qa_rows(3)), validation={"path": str(write("g.jsonl", rows[::-1]))}
    )
    other = ready(
        write("a.jsonl", qa_rows(3)), validation={"path": str(write("f.jsonl", rows[1:]))}
    )
    assert one.validation_hash == two.validation_hash != other.validation_hash


def test_a_smaller_sample_is_part_of_a_larger_one(write, ready):
    path = write("a.jsonl", qa_rows(40))

    def taken(n):
        prepared = ready(path, source={"sample": n}, validation={"fraction": 0})
        assert prepared.accounts[0].dropped == {"not in the sample": 40 - n}
        return set(ids_of(prepared.train.sources[0]))

    assert taken(5) < taken(15)
    assert len(taken(15)) == 15


# --- cache --------------------------------------------------------------------------------------


def test_the_cache_key_follows_content_template_filters_and_tokenizer(
    write, ready, tmp_path, make_codec
):
    rows = qa_rows(5)
    base = {"max_seq_len": 100}
    path = write("a.jsonl", rows)
    seen: set[str] = set()

    def new_key(path=path, **settings):
        ready(path, **{**base, **settings})
        now = {p.name for p in (tmp_path / "cache").iterdir()}
        (key,) = now - seen
        seen.add(key)

    new_key()
    new_key(template="chat")
    new_key(train_on="all")
    new_key(max_seq_len=101)
    new_key(overlong="cut")
    new_key(source={"filters": ["exact_duplicate"]})
    new_key(source={"filters": ["long_response"]})
    new_key(source={"filters": [{"long_response": {"max_words": 99}}]})
    new_key(codec=make_codec(eos="</s>"))
    new_key(write("a.jsonl", [*rows, {"prompt": "p", "completion": "c"}]))


@pytest.mark.parametrize(
    "name", ["ids-00000.bin", "target-00000.bin", "rows.bin", "drops.bin", "index.json"]
)
def test_a_tampered_cache_is_rebuilt_and_said(write, ready, tmp_path, name):
    said: list[str] = []
    path = write("a.jsonl", [*qa_rows(5), {"prompt": "", "completion": "x"}])
    before = ready(path).train.row(0)
    (folder,) = (tmp_path / "cache").iterdir()
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(bytes(content))
    after = ready(path, say=said.append).train.row(0)
    assert any("the cached tokens are set aside" in text for text in said)
    assert before == after


def test_an_intact_cache_is_used(write, ready, tmp_path):
    path = write("a.jsonl", qa_rows(5))
    said: list[str] = []
    ready(path)
    (index,) = (tmp_path / "cache").glob("*/index.json")
    made = index.stat().st_mtime_ns
    ready(path, say=said.append)
    assert index.stat().st_mtime_ns == made
    assert not any("tokens made" in text for text in said)


def test_a_failed_build_leaves_nothing_behind(write, ready, tmp_path):
    path = write("a.jsonl", '{"prompt": "a", "completion": "b"}\n{"prompt": "a"}\n')
    with pytest.raises(DataError, match="line 2"):
        ready(path)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_cache_that_cannot_be_written_is_one_sentence(write, ready, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(StorageError, match="token files cannot be written"):
        ready(write("a.jsonl", qa_rows(3)))


# --- rows, batches, prompts ---------------------------------------------------------------------


def test_rows_are_the_same_whoever_asks_and_in_any_order(write, ready):
    path = write("a.jsonl", qa_rows(30))
    one, two = ready(path, seed=3).train, ready(path, seed=3).train
    backwards = [two.row(i) for i in reversed(range(2 * one.rows_per_epoch))][::-1]
    assert [one.row(i) for i in range(2 * one.rows_per_epoch)] == backwards
    other = ready(path, seed=4).train
    assert [one.address(i) for i in range(10)] != [other.address(i) for i in range(10)]


def epoch_ids(train: TrainSet, epoch: int) -> Counter[str]:
    n = train.rows_per_epoch
    return Counter(e.tokens.id for i in range(n) for e in train.row(epoch * n + i))


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize(("weight", "counts"), [(1.0, {1}), (4.0, {4}), (2.5, {2, 3})])
def test_a_weight_repeats_examples_within_an_epoch(write, ready, packing, weight, counts):
    prepared = ready(
        write("a.jsonl", qa_rows(40)),
        source={"weight": weight},
        packing=packing,
        max_seq_len=64,
        validation={"fraction": 0},
    )
    seen = epoch_ids(prepared.train, 0)
    assert len(seen) == 40
    assert set(seen.values()) == counts
    if not packing:
        assert sum(seen.values()) == prepared.train.examples_per_epoch == 40 * weight


def test_a_tenth_is_another_tenth_each_epoch_and_all_after_ten(write, ready):
    prepared = ready(
        write("a.jsonl", qa_rows(50)), source={"weight": 0.1}, validation={"fraction": 0}
    )
    epochs = [epoch_ids(prepared.train, e) for e in range(10)]
    assert [sum(e.values()) for e in epochs] == [5] * 10
    assert len(set().union(*epochs)) == 50


def test_two_sources_are_mixed_by_weight(write, ready):
    one = write("a.jsonl", qa_rows(10))
    two = write("b.jsonl", [{"prompt": f"p{i}", "completion": "c"} for i in range(10)])
    prepared = ready(
        None,
        data=[{"path": str(one), "weight": 3}, {"path": str(two), "weight": 0.5}],
        validation={"fraction": 0},
    )
    train = prepared.train
    sources = Counter(e.source for i in range(train.rows_per_epoch) for e in train.row(i))
    assert sources == {"a": 30, "b": 5}
    assert train.examples_per_epoch == 35


def test_a_batch_carries_the_learning_rate_scale_of_each_source(write, ready):
    a = str(write("a.jsonl", qa_rows(8)))
    b = str(write("b.jsonl", [{"prompt": f"p{i}", "completion": "c"} for i in range(8)]))
    data = [{"path": a}, {"path": b, "learning_rate_scale": 0.5}]
    train = ready(None, data=data).train
    batch = collate([e for i in range(len(train)) for e in train.row(i)])
    assert dict(zip(batch.sources, batch.scales, strict=True)) == {"a": 1.0, "b": 0.5}
    plain = ready(None, data=[{"path": a}, {"path": b}]).train
    assert collate([e for i in range(len(plain)) for e in plain.row(i)]).scales == ()


def test_packed_rows_hold_whole_examples_within_the_limit(write, ready):
    prepared = ready(
        write("a.jsonl", qa_rows(60)), packing=True, max_seq_len=50, validation={"fraction": 0}
    )
    rows = [prepared.train.row(i) for i in range(prepared.train.rows_per_epoch)]
    assert all(sum(len(e.tokens.ids) for e in row) <= 50 for row in rows)
    assert len(rows) < 30
    total = sum(len(e.tokens.ids) for row in rows for e in row)
    assert total == prepared.train.tokens_per_epoch


def test_a_micro_batch_lays_examples_end_to_end(write, ready):
    prepared = ready(write("a.jsonl", qa_rows(5)), validation={"fraction": 0})
    examples = [e for i in range(3) for e in prepared.train.row(i)]
    batch = collate(examples)
    assert batch.ids.tolist() == [t for e in examples for t in e.tokens.ids]
    assert batch.target.tolist() == [t for e in examples for t in e.tokens.target]
    assert batch.positions.tolist() == [p for n in batch.lengths for p in range(n)]
    assert batch.segment.tolist() == [k for k, n in enumerate(batch.lengths) for _ in range(n)]
    assert batch.example_ids == tuple(e.tokens.id for e in examples)
    assert batch.sources == ("a", "a", "a")
    assert {batch.ids.dtype, batch.positions.dtype, batch.segment.dtype} == {np.dtype("int64")}


@pytest.mark.parametrize("tokens_per_batch", [1, 40, 10**6])
def test_validation_batches_hold_every_example_once_in_order(write, ready, tokens_per_batch):
    prepared = ready(write("a.jsonl", qa_rows(50)), validation={"fraction": 0.5})
    batches = list(validation_batches(prepared.validation, tokens_per_batch))
    assert [i for b in batches for i in b.example_ids] == ids_of(prepared.validation)
    assert all(len(b.lengths) == 1 or len(b.ids) <= tokens_per_batch for b in batches)
    (first,) = validation_batches(prepared.validation, 10**6, limit=3)
    assert list(first.example_ids) == ids_of(prepared.validation)[:3]


def test_sample_prompts_are_held_out_and_carry_the_answer(write, ready, codec):
    prepared = ready(write("a.txt", "".join(f"word{i}: say {i}\n" for i in range(50))))
    prompts = sample_prompts(prepared, 2)
    assert len(prompts) == 2
    for ids, text, reference in prompts:
        assert codec.decode(ids) == text
        assert text.startswith("word")
        assert reference == f"say {text[4:-1]}"


def test_sample_prompts_of_text_are_its_beginning(write, ready, codec):
    text = " ".join(f"word{i}" for i in range(100))
    prepared = ready(write("a.jsonl", [{"text": text + str(i)} for i in range(4)]), stage="cpt")
    ids, prompt, reference = sample_prompts(prepared, 1)[0]
    assert len(ids) == 32
    assert reference is not None
    assert (prompt + reference).replace(" ", "").startswith(text.replace(" ", ""))


def test_an_own_prompt_goes_through_the_template_of_the_run(write, ready, codec):
    path = write("a.jsonl", qa_rows(3))
    prepared = ready(path, template="chat")
    recipe = Recipe(name="r", model="m", template="chat", data=[{"path": str(path)}])
    ids = render_prompt(recipe, codec, "Hi", prepared)
    assert codec.decode(ids) == "User: Hi\nAssistant:"


def test_what_was_prepared_can_be_written_as_json(write, ready):
    account = ready(write("a.jsonl", qa_rows(3))).accounts[0]
    assert json.loads(json.dumps(dict(account.dropped))) == {}


# --- the real thing -----------------------------------------------------------------------------

REAL = [
    ("instruct/alpaca-random-9k.json.gz", "sft", "alpaca", 9229, {"empty answer": 4}),
    ("instruct/llms-from-scratch-1100.json", "sft", "alpaca", 1100, {}),
    ("quotes/keyword-quotes.txt", "sft", "lines", 7962, {"exact duplicate": 42}),
    ("text/tinystories-sample.txt.gz", "cpt", "text", 1737, {}),
    ("text/novels/C*.txt.gz", "cpt", "text", 5, {}),
]


@pytest.mark.shared_data
@pytest.mark.parametrize(("path", "stage", "expected", "rows_in", "dropped"), REAL)
def test_real_files_are_read_whole(shared_data, ready, path, stage, expected, rows_in, dropped):
    filters = ["exact_duplicate"] if "quotes" in path else []
    source = {"path": str(shared_data / path), "filters": filters}
    prepared = ready(None, data=[source], stage=stage, max_seq_len=100_000)
    (account,) = prepared.accounts
    assert (account.format, account.rows_in, account.dropped) == (expected, rows_in, dropped)
    assert account.train_rows + account.validation_rows == account.rows_out
