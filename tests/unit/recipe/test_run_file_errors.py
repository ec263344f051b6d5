from __future__ import annotations

from pathlib import Path

import pytest

from tunebook.errors import RunFileError
from tunebook.recipe.load import load_run_file

HEAD = "name: run_1\nmodel: tunebook/tiny\ndata:\n  - path: x.json\n"

MISTAKES = {
    "unknown key": ("trian: {epochs: 2}", ":5: unknown key `trian`; did you mean `train`?"),
    "unknown key in a section": (
        "train:\n  learning_rat: 1e-4",
        ":6: unknown key `train.learning_rat`; did you mean `train.learning_rate`?",
    ),
    "key of another section": (
        "learning_rate: 1e-4",
        ":5: unknown key `learning_rate`; did you mean `train.learning_rate`?",
    ),
    "key of another tool": ("lr: 1e-4", "did you mean `train.learning_rate`?"),
    "key like nothing": ("zzzzz: 1", "unknown key `zzzzz`; a run file takes name, extends, model"),
    "negative learning rate": (
        "train: {learning_rate: -1e-4}",
        ":5: `train.learning_rate` must be above 0, not -0.0001",
    ),
    "both warm-up forms": (
        "train: {warmup_steps: 3, warmup_fraction: 0.1}",
        ":5: `train`: give either `warmup_steps` or `warmup_fraction`, not both",
    ),
    "two horizons": (
        "train: {epochs: 1, max_steps: 3}",
        "give exactly one of epochs and max_steps",
    ),
    "text for a number": (
        "train: {epochs: three}",
        "`train.epochs` must be a number, not 'three'",
    ),
    "quoted number": ("seed: '3'", "`seed` must be a whole number, not '3'"),
    "fraction for a whole number": ("seed: 1.5", "`seed` must be a whole number, not 1.5"),
    "float with a whole value": (
        "seed: 1e3",
        "`seed` must be a whole number, not 1000.0; write 1000",
    ),
    "yes for a boolean": ("packing: yes", "`packing` must be true or false, not 'yes'"),
    "method that is not there": (
        "method: dora",
        "`method` must be one of full, lora, qlora, relora, not 'dora'; did you mean lora?",
    ),
    "card that is not known": (
        "device: rtx4080",
        "or a size such as cuda:15GiB; did you mean rtx4090?",
    ),
    "unknown format": (
        "validation: {path: v.json, format: alpacca}",
        "not 'alpacca'; did you mean alpaca?",
    ),
    "number or auto": (
        "train: {micro_batch_size: many}",
        "`train.micro_batch_size` must be a whole number or auto, not 'many'",
    ),
    "percentage with a blank": (
        "evaluate: {every: 5 %}",
        "`evaluate.every` must be a whole number, a percentage such as 5% or epoch, not '5 %'",
    ),
    "micro batch that does not divide": (
        "train: {effective_batch_size: 10, micro_batch_size: 4}",
        "`effective_batch_size` 10 must be a multiple of `micro_batch_size` 4",
    ),
    "infinite": ("train: {learning_rate: .inf}", "must be a finite number, not .inf"),
    "not a number": ("train: {learning_rate: .nan}", "must be a finite number, not .nan"),
    "empty section": ("train:", "`train` has nothing below it"),
    "section that is a value": (
        "lora: 16",
        "`lora` must be a section with keys of its own, not 16",
    ),
    "text for a list": (
        "notebook: {predict: val_loss < 2}",
        "`notebook.predict` must be a list (text), not 'val_loss < 2'",
    ),
    "number in a list of texts": (
        "notebook: {tags: [a, 3]}",
        "`notebook.tags.1` must be text, not 3",
    ),
    "both ways of validation": (
        "validation: {fraction: 0.1, path: v.json}",
        "`validation`: give either `fraction` or `path`, not both",
    ),
    "layers as a number": (
        "lora: {layers: 2}",
        ":5: `lora.layers` is 2: must be all, last:N, or a list of layers counted from 0",
    ),
    "split of sft": ("overlong: split", "`overlong: split` is for stage cpt; use drop or cut"),
    "duplicate key": ("seed: 1\nseed: 2", ":6: `seed` is there a second time (first on line 5)"),
    "broken yaml": ("train: {epochs: 1", "this is not valid YAML"),
    "tab": ("train:\n\tepochs: 1", ":6: this is not valid YAML: a Tab stands here"),
    "python tag": ("seed: !!python/object/apply:os.getpid []", ":5: here stands the tag"),
    "alias in itself": ("x: &x [*x]", "an alias that contains itself"),
    "two documents": ("---\nname: b", "expected a single document"),
    "key that is a list": ("? [a, b]\n: 1", ":5: here stands a key that is not a word"),
    "bad betas": ("train: {betas: [0.9, 1.5]}", "each beta must be at least 0 and below 1"),
    "one beta": ("train: {betas: [0.9]}", "`train.betas` must be a list of 2 numbers, not [0.9]"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_sentence_with_its_place(tmp_path: Path, case: str) -> None:
    text, expected = MISTAKES[case]
    path = tmp_path / "run.yaml"
    path.write_text(f"{HEAD}{text}\n", encoding="utf-8")
    with pytest.raises(RunFileError) as caught:
        load_run_file(path)
    assert expected in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def complaint(tmp_path: Path, content: bytes | str) -> str:
    path = tmp_path / "run.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(RunFileError) as caught:
        load_run_file(path)
    return str(caught.value).removeprefix(str(path))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunFileError, match="there is no such run file"):
        load_run_file(tmp_path / "none.yaml")


def test_a_folder_is_not_a_run_file(tmp_path: Path) -> None:
    with pytest.raises(RunFileError, match="this is a folder"):
        load_run_file(tmp_path)


def test_an_empty_file_says_what_it_needs(tmp_path: Path) -> None:
    assert complaint(tmp_path, "# nothing\n") == (
        ": the run file is empty; it needs name, model and data"
    )


def test_a_list_is_not_a_run_file(tmp_path: Path) -> None:
    assert "a run file is a mapping of keys" in complaint(tmp_path, "- a\n- b\n")


def test_a_byte_that_is_not_utf8_is_found_by_line(tmp_path: Path) -> None:
    assert complaint(tmp_path, b"name: a\nmodel: caf\xe9\n") == (
        ":2: byte 0xe9 is not UTF-8; save the file as UTF-8"
    )


def test_a_file_over_one_mebibyte_is_refused(tmp_path: Path) -> None:
    assert "larger than 1 MiB" in complaint(tmp_path, "#" * (1 << 20) + "\n")


def test_too_many_keys_are_refused_before_the_rest_is_read(tmp_path: Path) -> None:
    keys = "".join(f"k{n}: {n}\n" for n in range(60_000))
    assert ":5000: here stand more than 10,000 keys and values" in complaint(tmp_path, keys)


def test_aliases_that_multiply_are_refused(tmp_path: Path) -> None:
    layers = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    layers += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    assert "do aliases repeat themselves?" in complaint(tmp_path, "\n".join(layers))


def test_deep_nesting_is_refused(tmp_path: Path) -> None:
    assert "nested too deeply" in complaint(tmp_path, "a: " + "[" * 500)


def test_a_missing_key_says_what_it_is(tmp_path: Path) -> None:
    text = complaint(tmp_path, "model: tunebook/tiny\ndata: [{path: x}]\n")
    assert text == (
        ": `name` is missing; give text: A slug: letters, digits, dot, dash and underscore"
    )


def test_a_source_without_path_is_found_by_line(tmp_path: Path) -> None:
    text = complaint(tmp_path, "name: a\nmodel: m\ndata:\n  - path: x\n  - format: text\n")
    assert text.startswith(":5: `data.1.path` is missing")


def test_further_mistakes_are_counted(tmp_path: Path) -> None:
    text = complaint(tmp_path, HEAD + "seed: x\nmethod: y\ntrain: {epochs: -1, lrr: 3}\n")
    assert "unknown key `train.lrr`" in text
    assert text.endswith("(and 3 more mistakes)")


@pytest.mark.parametrize("name", ["a b", "../x", "", "ü", "x" * 101, ".hidden"])
def test_a_name_that_is_no_slug_is_refused(tmp_path: Path, name: str) -> None:
    text = complaint(tmp_path, HEAD.replace("run_1", f"'{name}'"))
    assert text.startswith(":1: `name` is")
    assert "must be a slug" in text
