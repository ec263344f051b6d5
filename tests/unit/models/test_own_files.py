"""Which links a model's folder may have, which it may not, and that the way out of a refusal works.

The attacks are those of a folder that was unpacked or copied with its links: each would give a file
of the user's away.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import transformers

from tunebook.errors import ModelError
from tunebook.models.own_files import is_read, refuse_link_out, refuse_what_is_not_its_own

SHA = "5" * 64


def whose(folder: Path) -> None:
    refuse_what_is_not_its_own(folder, "model 'm'")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "a model"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_text("{}")
    return folder


@pytest.fixture
def blobs(tmp_path: Path) -> Path:
    folder = tmp_path / "hub" / "models--a--b" / "blobs"
    folder.mkdir(parents=True)
    return folder


def lead(link: Path, to: Path | str) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(to)


@pytest.mark.parametrize("name", [SHA, "5" * 40])
def test_a_download_with_links_to_the_hubs_cache_is_a_model(
    model: Path, blobs: Path, name: str
) -> None:
    (blobs / name).write_text("{}")
    lead(model / "tokenizer.json", blobs / name)
    whose(model)
    lead(model / "tokenizer.json", os.path.relpath(blobs / name, model))
    whose(model)


@pytest.mark.parametrize("sub", ["sub", "sub/deeper"])
def test_a_folder_within_a_snapshot_has_the_blobs_of_its_repository(blobs: Path, sub: str) -> None:
    (blobs / SHA).write_text("{}")
    folder = blobs.parent / "snapshots" / ("c" * 40) / sub
    lead(folder / "tokenizer.json", os.path.relpath(blobs / SHA, folder))
    whose(folder)
    other = blobs.parent.parent / "models--a--private" / "blobs" / SHA
    other.parent.mkdir(parents=True)
    other.write_text("{}")
    lead(folder / "tokenizer.json", other)
    with pytest.raises(ModelError, match="link out of its folder"):
        whose(folder)


def a_secret(tmp_path: Path, name: str = "id_rsa") -> Path:
    path = tmp_path / "home" / ".ssh" / name
    path.parent.mkdir(parents=True)
    path.write_text("SECRET")
    return path


def straight(model: Path, tmp_path: Path) -> None:
    lead(model / "README.md", a_secret(tmp_path))


def through_a_cache_of_its_own(model: Path, tmp_path: Path) -> None:
    """The stranger's folder brings a cache, of which one blob is a link."""
    blob = model / "models--x--y" / "blobs" / SHA
    lead(blob, a_secret(tmp_path))
    lead(model / "README.md", blob)


def through_a_folder_of_blobs_that_is_a_link(model: Path, tmp_path: Path) -> None:
    """The file even is named like a blob, and its folder is not the hub's."""
    secret = a_secret(tmp_path, SHA)
    lead(model / "models--x--y" / "blobs", secret.parent)
    lead(model / "README.md", model / "models--x--y" / "blobs" / SHA)


def through_a_repository_that_is_a_link(model: Path, tmp_path: Path) -> None:
    secret = tmp_path / "home" / "blobs" / SHA
    secret.parent.mkdir(parents=True)
    secret.write_text("SECRET")
    lead(model / "models--x--y", secret.parent.parent)
    lead(model / "README.md", model / "models--x--y" / "blobs" / SHA)


def as_a_snapshot_beside_the_users_files(model: Path, tmp_path: Path) -> None:
    """Unpacked where the folder above the snapshots is the user's own, and no repository."""
    secret = tmp_path / "blobs" / SHA
    secret.parent.mkdir()
    secret.write_text("SECRET")
    model.rename(tmp_path / "moved")
    (tmp_path / "snapshots").mkdir()
    model.symlink_to((tmp_path / "moved").rename(tmp_path / "snapshots" / "r"))
    lead(model / "README.md", secret)


def to_a_data_set_of_the_cache(model: Path, tmp_path: Path) -> None:
    rows = tmp_path / "hub" / "datasets--me--private" / "blobs" / SHA
    rows.parent.mkdir(parents=True)
    rows.write_text("SECRET")
    lead(model / "README.md", rows)


def to_a_name_that_is_no_hash(model: Path, tmp_path: Path) -> None:
    notes = tmp_path / "hub" / "models--a--b" / "blobs" / f"{SHA}.incomplete"
    notes.parent.mkdir(parents=True)
    notes.write_text("SECRET")
    lead(model / "README.md", notes)


def templates_elsewhere(model: Path, tmp_path: Path) -> None:
    secret = a_secret(tmp_path, "mine.jinja")
    lead(model / "additional_chat_templates", secret.parent)


def templates_named_like_a_blob(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "hub" / "models--a--b" / "blobs" / SHA
    folder.mkdir(parents=True)
    (folder / "mine.jinja").write_text("SECRET")
    lead(model / "additional_chat_templates", folder)


def the_tokenizer_of_a_sibling(model: Path, tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "tokenizer.json").write_text("{}")
    lead(model / "tokenizer.json", "../base/tokenizer.json")


@pytest.mark.parametrize(
    "attack",
    [
        straight,
        through_a_cache_of_its_own,
        through_a_folder_of_blobs_that_is_a_link,
        through_a_repository_that_is_a_link,
        as_a_snapshot_beside_the_users_files,
        to_a_data_set_of_the_cache,
        to_a_name_that_is_no_hash,
        templates_elsewhere,
        templates_named_like_a_blob,
        the_tokenizer_of_a_sibling,
    ],
)
def test_no_other_link_leads_out_of_a_models_folder(
    model: Path, tmp_path: Path, attack: object
) -> None:
    assert callable(attack)
    attack(model, tmp_path)
    with pytest.raises(ModelError, match="link out of its folder"):
        whose(model)


def test_the_way_out_of_the_refusal_makes_a_folder_that_is_taken(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    the_tokenizer_of_a_sibling(model, tmp_path)
    with pytest.raises(ModelError) as refused:
        whose(model)
    said = re.search(r"`(cp [^`]*)`", str(refused.value))
    assert said is not None
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    command = shlex.split(said[1])
    subprocess.run(command, check=True)
    whose(Path(command[-1]))
    assert (elsewhere / command[-1] / "tokenizer.json").read_text() == "{}"


@pytest.mark.parametrize(
    "name", ["notes.txt", "trainer_state.json", "train.json", "eval.txt", "all_results.json"]
)
def test_a_link_or_a_pipe_that_nobody_reads_is_left_alone(
    model: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "mine").write_text("{}")
    lead(model / name, tmp_path / "mine")
    os.mkfifo(model / f"pipe-{name}")
    whose(model)


def test_a_link_into_a_folder_that_may_not_be_looked_into_is_refused_in_a_sentence(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lead(model / "README.md", tmp_path / "closed" / "README.md")
    really = os.stat

    def denied(path: object, *rest: object, **options: object) -> os.stat_result:
        if Path(str(path)).name == "README.md" and options.get("follow_symlinks", True):
            raise PermissionError(13, "Permission denied", str(path))
        return really(path, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "stat", denied)
    with pytest.raises(ModelError, match="link out of its folder"):
        refuse_link_out(model / "README.md", model, "model 'm'")


def test_all_that_transformers_reads_of_a_tokenizer_counts_as_read() -> None:
    """Its classes name their files; a new one of another name has to be added to ours."""
    root = Path(transformers.__file__).parent
    sources = [
        *root.glob("tokenization_*.py"),
        *root.glob("models/*/tokenization_*.py"),
        root / "utils" / "hub.py",
    ]
    named = re.compile(
        r'"(?:\w+_)?file": "([^"\n]+\.[^"\n]+)"|^\w+_FILE(?:_NAME)? = "([^"\n]+)"', re.MULTILINE
    )
    found = {
        one or other
        for source in sources
        for one, other in named.findall(source.read_text(encoding="utf-8"))
    }
    assert {"tokenizer.json", "chat_template.jinja", "merges.txt", "vocab.txt"} <= found
    assert [name for name in sorted(found) if not is_read(name)] == []


@pytest.mark.parametrize(
    "name",
    [
        *("config.json", "generation_config.json", "adapter_config.json", "model.safetensors"),
        *("model.safetensors.index.json", "pytorch_model.bin.index.json", "tekken.json"),
        *("tokenizer.4.0.0.json", "my-tokenizer.1.json", "tokenizer.model.v3", "LICENCE.txt"),
        *("README.md", "LICENSE", "odd\nname.model", "tiktoken.model", "adapter_model.bin"),
    ],
)
def test_settings_weights_card_and_licence_count_as_read(name: str) -> None:
    assert is_read(name)
