"""What the scripts of benchmarks/fuzz found, each as its smallest case."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from made_runs import make_run
from tunebook.book.codec import to_plain, to_record
from tunebook.book.events import read_events
from tunebook.book.places import RunFolder, list_runs
from tunebook.data.sources import locate
from tunebook.errors import BookError, DataError, ModelError, RunFileError, UsageError
from tunebook.imports.read import read_file
from tunebook.models.screen import screen_adapter, screen_folder
from tunebook.models.tried import refuse_endless
from tunebook.recipe.load import load_run_file
from tunebook.records import Diagnosis, Sample
from tunebook.workflows.convert import convert
from tunebook.workflows.diff import diff_runs


def test_a_number_of_thousands_of_hex_digits_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("name: x\nseed: 0x" + "f" * 9000 + "\n")
    with pytest.raises(RunFileError, match=r"run\.yaml:2: .*300 digits"):
        load_run_file(path)


def test_a_key_of_thousands_of_letters_is_not_repeated_whole(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(f"name: x\nmodel: y\ndata: [{{path: z}}]\nevaluate: {{eve{'a' * 5000}}}\n")
    with pytest.raises(RunFileError, match="unknown key") as caught:
        load_run_file(path)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("value", ["[1]", "{a: 1}"])
@pytest.mark.parametrize("key", ["micro_batch_size", "val_set_size", "sequence_len", "plugins"])
def test_a_value_of_another_kind_in_a_foreign_run_file_is_one_sentence(
    tmp_path: Path, key: str, value: str
) -> None:
    path = tmp_path / "axolotl.yaml"
    path.write_text(f"base_model: a/b\nadapter: lora\nlora_target_linear: true\n{key}: {value}\n")
    with pytest.raises(RunFileError, match=r"axolotl\.yaml"):
        convert(path)


def test_a_step_beyond_64_bits_is_refused_with_its_row(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("step,loss\n1,2.0\n99999999999999999999999,1.9\n")
    with pytest.raises(DataError, match=r"log\.csv: row 2: step is 1e\+23"):
        read_file(path)


def test_a_total_that_is_no_number_is_left_out_of_an_import(tmp_path: Path) -> None:
    path = tmp_path / "trainer_state.json"
    path.write_text(json.dumps({"max_steps": 10**40, "log_history": [{"step": 1, "loss": 2.0}]}))
    assert read_file(path).runs[0].reported == {}


def test_a_refusal_about_columns_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("step,loss,LOSS\n1,2.0,2.0\n")
    with pytest.raises(UsageError, match=r"log\.csv: the columns loss, LOSS"):
        read_file(path)


def test_a_number_that_json_cannot_write_becomes_its_digits() -> None:
    assert to_plain({"a": 1 << 64, "b": -(1 << 63)}) == {"a": str(1 << 64), "b": -(1 << 63)}


def test_an_event_with_a_word_where_a_number_belongs_is_named(book: Path) -> None:
    run = make_run(book, "first")
    (path,) = run.events.glob("*.jsonl")
    lines = path.read_bytes().splitlines()
    at = next(n for n, line in enumerate(lines) if json.loads(line)["kind"] == "step")
    lines[at] = json.dumps({**json.loads(lines[at]), "tokens": {"a": 1}}).encode()
    path.write_bytes(b"\n".join(lines) + b"\n")
    with pytest.raises(BookError, match="is not a step"):
        read_events(run)


def test_a_whole_float_is_an_integer_and_a_word_is_none() -> None:
    given = {"prompt": "a", "reference": None, "text": "b", "settings": ""}
    assert to_record(Sample, {**given, "step": 3.0}).step == 3
    with pytest.raises(TypeError, match="'many' where int belongs"):
        to_record(Sample, {**given, "step": "many"})


def test_a_list_where_names_with_values_belong_is_no_record() -> None:
    with pytest.raises(TypeError, match="names with values"):
        to_record(Diagnosis, {"step": 1, "verdicts": [], "looked_for": [], "not_looked_for": [1]})


@pytest.mark.parametrize("broken", ['{"a": 1}', '{"sources": 3}', '{"sources": [{}]}'])
def test_accounts_that_cannot_be_compared_are_said_to_be_so(book: Path, broken: str) -> None:
    make_run(book, "first").data_json.write_text(broken)
    make_run(book, "second")
    (said,) = diff_runs(book, "first", "second").data
    assert "data.json cannot be read" in said


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "gpt2", "n_layer": 2}')
    return folder


@pytest.mark.parametrize(
    ("config", "word"),
    [
        ({"auto_map": {"AutoConfig": "a.B"}}, "auto_map"),
        ({"text_config": {"auto_map": {"AutoConfig": "a.B"}}}, "auto_map"),
        ({"trust_remote_code": True}, "trust_remote_code"),
        ({"_attn_implementation": "evil/kernel"}, "_attn_implementation"),
        ({"attn_implementation": {"": "evil/kernel:x"}}, "attn_implementation"),
        ({"vocab_size": 10**12}, "vocab_size"),
        ({"n_layer": 10**6}, "n_layer"),
        ({"text_config": {"num_local_experts": 10**9}}, "num_local_experts"),
    ],
)
def test_a_config_that_names_code_or_sizes_no_model_has_is_refused(
    model: Path, config: dict[str, object], word: str
) -> None:
    (model / "config.json").write_text(json.dumps({"model_type": "gpt2", **config}))
    with pytest.raises(ModelError, match=word):
        screen_folder(model, "m")


@pytest.mark.parametrize(
    "config",
    [
        {"_attn_implementation": "flash_attention_2"},
        {"_attn_implementation_autoset": True},
        {"attn_implementation": None},
        {"auto_map": None},
        {"block_size": 131_072, "vocab_size": 262_144, "layer_norm_eps": 1e-5},
        {"model_max_length": 10**30 * 1.0},
    ],
)
def test_what_honest_configs_say_is_taken(model: Path, config: dict[str, object]) -> None:
    (model / "config.json").write_text(json.dumps({"model_type": "gpt2", **config}))
    screen_folder(model, "m")


def test_a_config_of_a_hundred_thousand_levels_is_one_sentence(model: Path) -> None:
    (model / "config.json").write_text('{"a":' + "[" * 100_000 + "]" * 100_000 + "}")
    with pytest.raises(ModelError, match="nested too deeply"):
        screen_folder(model, "m")


@pytest.mark.parametrize("name", ["../x.safetensors", "/etc/passwd", "a/b.safetensors", "x.bin"])
def test_an_index_names_files_of_its_folder_only(model: Path, name: str) -> None:
    index = {"weight_map": {"a": name}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="file of this folder"):
        screen_folder(model, "m")


def test_a_link_out_of_a_model_is_refused_and_one_within_is_not(model: Path) -> None:
    (model / "own.txt").write_text("own")
    os.symlink("own.txt", model / "LICENSE")
    screen_folder(model, "m")
    os.symlink(model.parent, model / "README.md")
    with pytest.raises(ModelError, match="link out of its folder"):
        screen_folder(model, "m")


def test_the_links_of_the_hubs_cache_are_taken(tmp_path: Path) -> None:
    blobs, folder = tmp_path / "models--a--b" / "blobs", tmp_path / "models--a--b/snapshots/abc"
    blobs.mkdir(parents=True)
    folder.mkdir(parents=True)
    (blobs / "123").write_text('{"model_type": "gpt2"}')
    os.symlink("../../blobs/123", folder / "config.json")
    screen_folder(folder, "a/b")


@pytest.mark.parametrize(
    ("config", "word"),
    [
        ({"peft_type": "LORA", "megatron_config": {"a": 1}, "megatron_core": "evil"}, "megatron"),
        ({"peft_type": "LORA", "auto_mapping": {"parent_library": "evil"}}, "auto_mapping"),
        ({"peft_type": "EVIL"}, "peft_type"),
        ({"peft_type": "LORA"}, "pickle"),
    ],
)
def test_an_adapter_that_names_code_or_is_pickle_is_refused(
    tmp_path: Path, config: dict[str, object], word: str
) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    (tmp_path / "adapter_model.bin").write_bytes(b"cos\nsystem\n")
    with pytest.raises(ModelError, match=word):
        screen_adapter(tmp_path)


@pytest.mark.parametrize(
    ("template", "word"),
    [
        ("{{ 'a' * 10**11 }}", "memory"),
        ("{{ ''.__class__.__mro__ }}", "sandbox"),
        ("{{ 'a' * 2000000 }}", "million"),
        ("{% for m in messages %}{{ m.content }}{% endfor %}", None),
        ("{% generation %}{{ messages[0].content }}{% endgeneration %}", None),
        ("{% if %}", None),
    ],
)
def test_a_chat_template_is_tried_before_it_is_used(
    model: Path, template: str, word: str | None
) -> None:
    (model / "chat_template.jinja").write_text(template)
    if word is None:
        refuse_endless(model, "m")
        return
    with pytest.raises(ModelError, match=word):
        refuse_endless(model, "m")


def test_a_template_that_never_ends_is_given_up(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunebook.models.tried.CPU_SECONDS", 1)
    endless = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}{# #}"
    (model / "tokenizer_config.json").write_text(json.dumps({"chat_template": endless}))
    with pytest.raises(ModelError, match="did not come to an end"):
        refuse_endless(model, "m")


def test_a_pattern_that_goes_back_and_forth_is_refused(model: Path) -> None:
    split = {"type": "Split", "behavior": "Isolated", "invert": False}
    parts = {"pre_tokenizer": {**split, "pattern": {"Regex": "(a+)+$"}}}
    (model / "tokenizer.json").write_text(json.dumps(parts))
    with pytest.raises(ModelError, match="patterns"):
        refuse_endless(model, "m")
    parts["pre_tokenizer"]["pattern"] = {"Regex": r"'s|\p{L}+|\s+(?!\S)|\s+"}
    (model / "tokenizer.json").write_text(json.dumps(parts))
    refuse_endless(model, "m")


def test_weights_with_a_broken_header_are_named(tmp_path: Path) -> None:
    from tunebook.models.export import stored_precision

    (tmp_path / "model.safetensors").write_bytes(b"cos\nsystem\n(S'touch canary'\ntR.")
    with pytest.raises(ModelError, match=r"model\.safetensors cannot be read"):
        stored_precision(tmp_path)


def test_a_file_is_taken_by_the_adapter_only_as_safetensors(tmp_path: Path) -> None:
    from tunebook.models.load import load_adapter

    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    (tmp_path / "adapter_model.bin").write_bytes(b"cos\nsystem\n(S'touch canary'\ntR.")
    with pytest.raises(ModelError, match="pickle"):
        load_adapter(SimpleNamespace(causal=None), tmp_path)


@pytest.mark.parametrize("name", ["first\n", "a\nb", "../x", ""])
def test_a_line_break_ends_no_name_of_a_run(book: Path, name: str) -> None:
    with pytest.raises(BookError, match="cannot name a run"):
        RunFolder(book, name)
    (book / "runs" / "kept\n").mkdir()
    assert list_runs(book) == []


def test_a_file_whose_name_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.csv")
    try:
        path.write_text("question,answer\na,b\n")
    except OSError:
        pytest.skip("this file system has no such names")
    with pytest.raises(DataError, match="name is not UTF-8"):
        locate(str(path))
    with pytest.raises(DataError, match="name is not UTF-8"):
        read_file(path)
