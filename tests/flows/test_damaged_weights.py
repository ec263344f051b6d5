"""Weights that are cut, garbled or missing are told by a plan, in a second and with the way out."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from test_train_flow import write_run

from tunebook.book.places import create_book
from tunebook.cli.main import main
from tunebook.models.screen import MAX_JSON_BYTES


def cut(weights: Path) -> None:
    weights.write_bytes(weights.read_bytes()[:-1000])


def garbled(weights: Path) -> None:
    weights.write_bytes(b"\xff" * 64 + weights.read_bytes()[64:])


def longer(weights: Path) -> None:
    weights.write_bytes(weights.read_bytes() + b"x" * 9)


def pointer(weights: Path) -> None:
    weights.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")


def web_page(weights: Path) -> None:
    weights.write_text("<!DOCTYPE html>\n<html>Log in</html>\n")


def empty(weights: Path) -> None:
    weights.write_bytes(b"")


def lost_part(weights: Path) -> None:
    names = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    index = {"metadata": {}, "weight_map": dict(zip("ab", names, strict=True))}
    weights.with_name("model.safetensors.index.json").write_text(json.dumps(index))
    weights.rename(weights.with_name(names[0]))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (cut, "it is cut"),
        (garbled, "it is garbled"),
        (longer, "9 more than its header says"),
        (pointer, "a pointer of git-lfs"),
        (web_page, "a web page"),
        (empty, "it is empty"),
        (lost_part, "it is not there, and the index names it"),
    ],
)
@pytest.mark.parametrize("verb", ["plan", "train"])
def test_damaged_weights_are_refused_with_their_file_and_the_way_out(
    tiny_gpt2: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Path], None],
    said: str,
    verb: str,
) -> None:
    model = Path(shutil.copytree(tiny_gpt2, tmp_path / "model"))
    damage(model / "model.safetensors")
    book = create_book(tmp_path / "book")
    monkeypatch.chdir(book)
    assert main([verb, str(write_run(book, "run_1", model))]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "copy or fetch it anew" in err
    assert str(model / "model") in err
    assert err.count(str(model / "model")) == 1
    assert not (book / "runs" / "run_1").exists()


def test_a_config_alone_is_planned_and_what_is_missing_is_said(
    tiny_gpt2: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = Path(shutil.copytree(tiny_gpt2, tmp_path / "model"))
    (model / "model.safetensors").unlink()
    book = create_book(tmp_path / "book")
    monkeypatch.chdir(book)
    assert main(["plan", str(write_run(book, "run_1", model)), "--no-probe"]) == 0
    said = " ".join("".join(capsys.readouterr()).split())
    assert "can be planned, and not trained" in said
    assert f"{model} holds no weights; training needs model.safetensors" in said


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_settings_that_are_a_pointer_or_a_web_page_are_called_so(
    tiny_gpt2: Path, tmp_path: Path, name: str
) -> None:
    from tunebook.errors import ModelError
    from tunebook.models.find import find_model

    model = Path(shutil.copytree(tiny_gpt2, tmp_path / "model"))
    for damage, said in ((pointer, "a pointer of git-lfs"), (web_page, "a web page")):
        damage(model / name)
        with pytest.raises(ModelError, match=said):
            find_model(str(model))


def outside(index: Path) -> None:
    index.write_text(json.dumps({"weight_map": {"a": "../mine", "b": "model.safetensors"}}))


def pipe_outside(index: Path) -> None:
    os.mkfifo(index.parents[1] / "pipe")
    index.write_text(json.dumps({"weight_map": {"a": str(index.parents[1] / "pipe"), "b": "c"}}))


def endless(index: Path) -> None:
    with index.open("wb") as file:
        file.truncate(MAX_JSON_BYTES + 1)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (outside, "names '../mine', which is no .safetensors file of this folder"),
        (pipe_outside, "pipe', which is no .safetensors file of this folder"),
        (endless, "is over 64 MiB, so it is no index of weights"),
    ],
)
def test_an_index_opens_no_file_but_weights_of_its_folder(
    tiny_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    make: Callable[[Path], None],
    said: str,
) -> None:
    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    (tmp_path / "mine").write_text("words of mine, and enough of them to look like a header")
    (model / "model.safetensors").rename(model / "part.safetensors")
    make(model / "model.safetensors.index.json")
    book = create_book(tmp_path / "book")
    assert main(["train", str(write_run(book, "a", model))]) == 2
    assert said in capsys.readouterr().err
    assert not (book / "runs" / "a").exists()
