"""Weights that cannot be read are called what they are: forbidden, cut, too long or garbled."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tunebook.errors import ModelError
from tunebook.models import export
from tunebook.models.find import EMBEDDED_FOLDER, find_model
from tunebook.models.weight_files import find_damage

WEIGHTS = "model.safetensors"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copytree(EMBEDDED_FOLDER, tmp_path / "model"))


def forbid(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the system refuse a file, as that of another account, also to root."""
    really = os.open

    def denied(name: object, *rest: object, **options: object) -> int:
        if str(name) == str(path):
            raise PermissionError(13, "Permission denied", str(name))
        return really(name, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", denied)


def test_weights_that_may_not_be_read_are_called_so_with_the_way_out(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forbid(model / WEIGHTS, monkeypatch)
    said = find_damage(model)
    assert said is not None
    assert f"{model / WEIGHTS} cannot be read (Permission denied)" in said
    assert "chmod" in said
    assert "garbled" not in said
    assert "No such file" not in said


def test_a_part_that_may_not_be_read_is_called_so(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = model / "model-00001-of-00001.safetensors"
    (model / WEIGHTS).rename(part)
    index = {"weight_map": {"a": part.name}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    forbid(part, monkeypatch)
    assert f"{part} cannot be read (Permission denied)" in str(find_damage(model))


def test_an_index_that_may_not_be_read_is_called_so(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (model / WEIGHTS).unlink()
    index = model / "model.safetensors.index.json"
    index.write_text("{}")
    forbid(index, monkeypatch)
    really = Path.read_text

    def denied(path: Path, *rest: object, **options: object) -> str:
        if path == index:
            raise PermissionError(13, "Permission denied", str(path))
        return really(path, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "read_text", denied)
    assert f"{index} cannot be read (Permission denied)" in str(find_damage(model))


def test_what_is_merged_into_says_the_same_of_weights_that_may_not_be_read(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forbid(model / WEIGHTS, monkeypatch)

    def not_there(path: Path, **_: object) -> None:
        raise FileNotFoundError(f"No such file or directory: {path}")  # as the library says it

    monkeypatch.setattr(export, "safe_open", not_there)
    with pytest.raises(ModelError, match=r"cannot be read \(Permission denied\)") as said:
        export.stored_precision(model)
    assert "No such file" not in str(said.value)


def test_only_a_file_that_is_shorter_than_its_header_says_is_called_cut(model: Path) -> None:
    weights = model / WEIGHTS
    whole = weights.read_bytes()
    weights.write_bytes(whole + b"x" * 9)
    said = str(find_damage(model))
    assert f"it has {len(whole) + 9:,} bytes, 9 more than its header says" in said
    assert "cut" not in said
    for left in (len(whole) - 1, 500, 9):
        weights.write_bytes(whole[:left])
        assert f"it is cut: it has {left:,} bytes" in str(find_damage(model))
    weights.write_bytes(whole[: len(whole) - 1])
    assert f"and its header says {len(whole):,}" in str(find_damage(model))


@pytest.mark.parametrize(
    "header",
    [
        b"{",
        b"[]",
        b'{"a": 1}',
        b'{"a": {"data_offsets": 3}}',
        b'{"a": {"data_offsets": [0, "x"]}}',
        b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_a_header_of_nonsense_is_garbled_and_no_traceback(model: Path, header: bytes) -> None:
    (model / WEIGHTS).write_bytes(len(header).to_bytes(8, "little") + header)
    assert "it is garbled, or no safetensors" in str(find_damage(model))


def test_a_pipe_among_the_parts_is_named_and_not_waited_for(model: Path) -> None:
    (model / WEIGHTS).unlink()
    os.mkfifo(model / WEIGHTS)
    with pytest.raises(ModelError, match="pipe or a device"):
        find_model(str(model))
    (model / "model.safetensors.index.json").write_text('{"weight_map": {"a": "b.safetensors"}}')
    os.mkfifo(model / "b.safetensors")
    assert "it is a pipe, not a file" in str(find_damage(model))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another account")
def test_another_account_is_told_that_it_may_not_read(model: Path, tmp_path: Path) -> None:
    for folder in (model, *model.parents):
        if (
            str(folder).startswith(str(tmp_path.parents[1]))
            and folder != tmp_path.parents[1].parent
        ):
            folder.chmod(0o755)
    (model / WEIGHTS).chmod(0o600)
    os.seteuid(65534)
    try:
        said = str(find_damage(model))
    finally:
        os.seteuid(0)
    assert f"{model / WEIGHTS} cannot be read (Permission denied)" in said


@pytest.mark.parametrize("closed", ["the model's folder", "the folder of its weights"])
def test_a_folder_that_may_not_be_entered_is_called_so(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: str
) -> None:
    really = os.stat

    def denied(path: object, *rest: object, **options: object) -> os.stat_result:
        inside = Path(str(path)).parent == model and options.get("follow_symlinks", True)
        if inside and (closed == "the model's folder" or Path(str(path)).name == WEIGHTS):
            raise PermissionError(13, "Permission denied", str(path))
        return really(path, *rest, **options)  # type: ignore[arg-type]

    forbid(model / WEIGHTS, monkeypatch)
    monkeypatch.setattr(os, "stat", denied)
    assert "cannot be read (Permission denied)" in str(find_damage(model))
    if closed == "the model's folder":
        with pytest.raises(ModelError, match="cannot be read: Permission denied"):
            find_model(str(model))
    else:
        assert find_model(str(model)) == model
