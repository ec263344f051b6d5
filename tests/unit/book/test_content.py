from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tunebook.book import content
from tunebook.book.checkpoints import writing_folder
from tunebook.book.content import verify_weights, weights_hash
from tunebook.errors import CheckpointError, ModelError


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    with writing_folder(folder) as inside:
        (inside / "model.safetensors").write_bytes(b"weights")
        (inside / "optimizer.safetensors").write_bytes(b"moments")
        (inside / "config.json").write_text("{}")
        (inside / "tokenizer.json").write_text("{}")
    return folder


def test_the_hash_is_of_names_and_bytes_of_weights_alone(model: Path, tmp_path: Path) -> None:
    first = weights_hash(model)
    for name in ("tokenizer.json", "optimizer.safetensors"):
        (model / name).write_text("other")
    assert weights_hash(model) == first
    assert weights_hash(model.rename(tmp_path / "moved")) == first
    folder = tmp_path / "moved"
    (folder / "config.json").write_text("{ }")
    assert weights_hash(folder) != first
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").rename(folder / "model-2.safetensors")
    assert weights_hash(folder) != first
    (folder / "model-2.safetensors").unlink()
    with pytest.raises(ModelError, match=r"holds no \.safetensors weights"):
        weights_hash(folder)


def test_a_file_is_read_once_and_again_when_it_changed(
    model: Path, book: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "_SETTLED_SECONDS", -1.0)
    read: list[str] = []
    real = content._read
    monkeypatch.setattr(content, "_read", lambda path: read.append(path.name) or real(path))
    first = weights_hash(model, book)
    assert weights_hash(model, book) == first
    assert read == ["config.json", "model.safetensors"]
    weights = model / "model.safetensors"
    before = weights.stat()
    weights.write_bytes(b"Weights")
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))  # hides it from mtime
    assert weights_hash(model, book) != first
    (book / ".tunebook" / "weights.json").write_text("{ torn")
    weights.write_bytes(b"weights")
    assert weights_hash(model, book) == first


def test_a_file_written_just_now_is_not_remembered(model: Path, book: Path) -> None:
    weights_hash(model, book)
    assert not (book / ".tunebook" / "weights.json").exists()
    assert time.time() - (model / "config.json").stat().st_mtime < content._SETTLED_SECONDS


def test_a_blob_named_after_its_content_is_not_read(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "abc"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    real = tmp_path / "real"
    real.mkdir()
    (real / "model.safetensors").write_bytes(b"weights")
    name = content._read(real / "model.safetensors")
    (blobs / name).write_bytes(b"")  # not read, so it need not be there
    (snapshot / "model.safetensors").symlink_to(blobs / name)
    assert weights_hash(snapshot) == weights_hash(real)


def test_weights_are_held_against_their_manifest(model: Path) -> None:
    verify_weights(model)
    (model / "optimizer.safetensors").unlink()
    verify_weights(model)
    (model / "model.safetensors").write_bytes(b"weightz")
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged"):
        verify_weights(model)
    (model / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors is missing"):
        verify_weights(model)
