"""What the scripts of benchmarks/fuzz found, each as its smallest case."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from made_runs import make_run
from tunebook.book.codec import to_plain, to_record
from tunebook.book.events import read_events
from tunebook.book.places import RunFolder, list_runs
from tunebook.data.detect import detect
from tunebook.data.examples import Reader
from tunebook.data.sources import locate
from tunebook.errors import (
    BookError,
    DataError,
    ModelError,
    RunFileError,
    TunebookError,
    UsageError,
)
from tunebook.imports.read import read_file
from tunebook.models.screen import screen_adapter, screen_folder
from tunebook.models.tried import refuse_endless
from tunebook.recipe.load import load_run_file
from tunebook.recipe.tree import Source
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
    with pytest.raises(BookError, match="is no step event"):
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
        ({"auto_map": {"AutoConfig": "a.B"}, "model_type": "evil"}, "auto_map"),
        ({"text_config": {"auto_map": {"AutoConfig": "a.B"}}}, "auto_map"),
        ({"trust_remote_code": True}, "trust_remote_code"),
        ({"_attn_implementation": "evil/kernel"}, "_attn_implementation"),
        ({"attn_implementation": {"": "evil/kernel:x"}}, "attn_implementation"),
        ({"vocab_size": 10**12}, "vocab_size"),
        ({"_attn_implementation": "kernels-community/flash-attn2"}, "_attn_implementation"),
        ({"n_layer": 10**6}, "n_layer"),
        ({"depths": [2, 10**9]}, "depths"),
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
        {"attn_implementation": "flash_attention_3"},
        {"attn_implementation": "some_other_word"},
        {"experts_implementation": "deepgemm"},
        {"seed": 1 << 40, "num_parameters": 7 * 10**9, "training_tokens": 15 * 10**12},
        {"auto_map": {"AutoModelForCausalLM": "evil.Evil"}},
        {"_attn_implementation_autoset": True},
        {"attn_implementation": None},
        {"block_size": 131_072, "vocab_size": 262_144, "layer_norm_eps": 1e-5},
        {"model_max_length": 10**30 * 1.0},
    ],
)
def test_what_honest_configs_say_is_taken(model: Path, config: dict[str, object]) -> None:
    from tunebook.models.skeleton import build_skeleton, load_config

    small = {"n_layer": 1, "n_embd": 8, "n_head": 2, "vocab_size": 16}
    (model / "config.json").write_text(json.dumps({"model_type": "gpt2", **small, **config}))
    screen_folder(model, "m")
    built = build_skeleton(load_config(str(model)))
    assert built.config._attn_implementation in ("sdpa", "eager")


def test_an_auto_map_that_names_nothing_is_no_code(model: Path) -> None:
    (model / "config.json").write_text('{"model_type": "evil", "auto_map": null}')
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


@pytest.mark.parametrize(
    ("name", "leads"),
    [
        ("model.safetensors", "x"),
        ("pytorch_model.bin", "z"),
        ("notes", "elsewhere"),
        ("special_tokens_map.json", "gone/../missing"),
    ],
)
def test_links_of_a_users_own_are_taken(model: Path, name: str, leads: str) -> None:
    store = model.parent / "store"
    store.mkdir()
    if "missing" not in leads:
        (store / leads).write_text('{"model_type": "gpt2"}')
    (model / name).unlink(missing_ok=True)
    os.symlink(store / leads, model / name)
    screen_folder(model, "m")


def test_a_snapshot_links_to_the_blobs_of_no_other_repository(tmp_path: Path) -> None:
    model, blobs = tmp_path / "models--a--c/snapshots/abc", tmp_path / "models--a--b" / "blobs"
    for folder in (model, blobs):
        folder.mkdir(parents=True)
    (model / "config.json").write_text('{"model_type": "gpt2"}')
    (blobs / ("a" * 40)).write_text("{{ messages }}")
    os.symlink(blobs / ("a" * 40), model / "chat_template.jinja")
    with pytest.raises(ModelError, match="link out of its folder"):
        screen_folder(model, "m")


@pytest.mark.parametrize(
    ("name", "leads"),
    [
        ("LICENSE", "id_rsa"),
        ("LICENSE", "LICENSE"),
        ("chat_template.jinja", "id_rsa"),
        ("added_tokens.json", "id_rsa"),
        ("tokenizer.json", "id_rsa"),
        ("tokenizer.model", "id_rsa"),
        ("config.json", "config.json"),
        ("generation_config.json", "config.json"),
    ],
)
def test_a_link_to_a_file_that_would_be_released_in_its_place_is_refused(
    model: Path, name: str, leads: str
) -> None:
    own = model.parent / "own"
    own.mkdir()
    (own / leads).write_text('{"auths": "SECRET"}')
    (model / name).unlink(missing_ok=True)
    os.symlink(own / leads, model / name)
    with pytest.raises(ModelError, match="link out of its folder"):
        screen_folder(model, "m")


def test_the_links_of_the_hubs_cache_are_taken(tmp_path: Path) -> None:
    blobs, folder = tmp_path / "models--a--b" / "blobs", tmp_path / "models--a--b/snapshots/abc"
    blobs.mkdir(parents=True)
    folder.mkdir(parents=True)
    (blobs / ("0" * 40)).write_text('{"model_type": "gpt2"}')
    os.symlink("../../blobs/" + "0" * 40, folder / "config.json")
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


ENDLESS = "{{ 'a' * 2000000 }}"
SPLIT = {"type": "Split", "behavior": "Isolated", "invert": False}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer_config.json", {"chat_template": [{"name": "default", "template": ENDLESS}]}),
        ("tokenizer_config.json", {"chat_template": {"tool_use": ENDLESS}}),
        ("tokenizer_config.json", {"chat_template": ENDLESS}),
        ("special_tokens_map.json", {"chat_template": ENDLESS}),
        ("chat_template.json", {"chat_template": ENDLESS}),
        ("additional_chat_templates/tools.jinja", ENDLESS),
        ("chat_template.jinja", ENDLESS),
    ],
)
def test_every_template_that_transformers_may_hold_is_tried(
    model: Path, name: str, content: object
) -> None:
    harmless = "{{ messages[0].content }}"
    (model / "additional_chat_templates").mkdir()
    (model / "chat_template.jinja").write_text(harmless)
    (model / "chat_template.json").write_text(json.dumps({"chat_template": harmless}))
    text = content if isinstance(content, str) else json.dumps(content)
    (model / name).write_text(text)
    with pytest.raises(ModelError, match="chat template was tried"):
        refuse_endless(model, "m")


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer.1.0.json"])
def test_a_pattern_is_found_however_it_is_written(model: Path, name: str) -> None:
    parts = json.dumps({"pre_tokenizer": {**SPLIT, "pattern": {"Regex": "(a+)+$"}}})
    (model / name).write_text(parts.replace("Regex", "Rege\\u0078"))
    (model / "tokenizer_config.json").write_text('{"fast_tokenizer_files": ["tokenizer.1.0.json"]}')
    with pytest.raises(ModelError, match="patterns"):
        refuse_endless(model, "m")


def test_a_tokenizer_file_outside_of_the_folder_is_refused(model: Path) -> None:
    named = {"fast_tokenizer_files": ["../tokenizer.1.0.json"]}
    (model / "tokenizer_config.json").write_text(json.dumps(named))
    with pytest.raises(ModelError, match="no file of"):
        refuse_endless(model, "m")


def test_the_trial_finds_its_libraries_where_this_process_has_them(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An interpreter with nothing of its own installed, such as one that PYTHONPATH makes whole.
    bare = tmp_path / "bare"
    bare.write_text(f'#!/bin/sh\nshift\nexec {sys.executable} -I -S "$@"\n')
    bare.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(bare))
    (model / "chat_template.jinja").write_text("{{ messages[0].content }} found")
    refuse_endless(model, "m")


def test_a_missing_library_is_said_of_the_environment_and_not_of_the_model(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (model / "chat_template.jinja").write_text("{{ messages[0].content }} missing")
    bare = tmp_path / "bare"
    bare.write_text(f'#!/bin/sh\nshift\nexec {sys.executable} -I -S "$@"\n')
    bare.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", str(bare))
        patch.setattr(sys, "path", [str(tmp_path)])
        with pytest.raises(TunebookError, match=r"No module named 'jinja2'.*nothing of the model"):
            refuse_endless(model, "m")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
    with pytest.raises(TunebookError, match="could not be started") as caught:
        refuse_endless(model, "m")
    assert not isinstance(caught.value, ModelError)


def test_the_clock_of_a_trial_begins_when_it_is_ready(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = tmp_path / "slow"
    slow.write_text(f'#!/bin/sh\nsleep 3\nexec {sys.executable} "$@"\n')
    slow.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(slow))
    monkeypatch.setattr("tunebook.models.tried.SECONDS", 2)
    (model / "chat_template.jinja").write_text("{{ messages[0].content }} slow")
    refuse_endless(model, "m")


def test_a_models_code_is_left_out_where_transformers_has_its_class(
    tiny_model: Path, tmp_path: Path
) -> None:
    from tunebook.models.load import load_model, save_weights
    from tunebook.models.tokenizer import load_tokenizer

    canary, folder = tmp_path / "canary", tmp_path / "own"
    shutil.copytree(tiny_model, folder)
    code = f"open({str(canary)!r}, 'w').write('ran')\nclass Evil:\n    pass\n"
    (folder / "evil.py").write_text(code)
    names = ("AutoConfig", "AutoModel", "AutoModelForCausalLM")
    maps = {
        "config.json": dict.fromkeys(names, "evil.Evil"),
        "tokenizer_config.json": {"AutoTokenizer": ["evil.Evil", "evil.Evil"]},
    }
    for name, told in maps.items():
        path = folder / name
        path.write_text(json.dumps({**json.loads(path.read_text()), "auto_map": told}))
    loaded = load_model(str(folder), device="cpu", precision="fp32", attention="auto")
    assert "not run" in loaded.notes[0]
    load_tokenizer(str(folder)).encode("a", specials=False)
    save_weights(loaded, tmp_path / "saved")
    assert "auto_map" not in json.loads((tmp_path / "saved" / "config.json").read_text())
    assert not canary.exists()


@pytest.mark.parametrize(
    "written", ["root:x:0:0:SECRET\n", "- SECRET\n", "a: 'SECRET\n", "SECRET: [1]\nname: SECRET",
                "'SECRET key': 1\nname: x\n", "`SECRET\n"]
)  # fmt: skip
def test_what_extends_names_is_not_repeated_where_it_is_no_run_file(
    tmp_path: Path, written: str
) -> None:
    (tmp_path / "secret").write_text(written)
    path = tmp_path / "run.yaml"
    path.write_text("name: x\nextends: ./secret\ndata: [{path: z}]\n")
    with pytest.raises(RunFileError) as caught:
        load_run_file(path)
    shown = str(caught.value).replace("unknown key `SECRET`", "")
    assert "SECRET" not in shown


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


@pytest.mark.parametrize(
    "text", ['{"LONG": "b", "answer": "c"}', '{"messages": [{"role": "LONG", "content": "b"}]}']
)
def test_a_key_or_role_of_a_texts_length_is_named_in_part(tmp_path: Path, text: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(text.replace("LONG", "a" * 9000) + "\n", encoding="utf-8")
    source = Source(path=str(path))
    located = locate(source.path)
    with pytest.raises(DataError, match=r"aaa\.\.\.") as told:
        list(Reader(located, detect(located, source), source, "sft").examples())
    assert len(str(told.value)) < 1000
