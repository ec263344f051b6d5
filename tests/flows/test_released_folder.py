"""What is done with a released folder: it is checked, turned into GGUF, and pushed to a hub."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from test_release import train_in
from test_train_flow import tunebook

from fresh_here import answer_here
from hub_server import TOKEN, HubServer, serve_hub
from tunebook.book.checkpoints import MANIFEST, read_manifest, writing_folder
from tunebook.book.places import RunFolder, create_book
from tunebook.book.releases import read_releases
from tunebook.cli.main import main
from tunebook.workflows.release import release
from tunebook.workflows.to_gguf import SCRIPT, VARIABLE


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory, tiny_gpt2: Path) -> RunFolder:
    """A run with an adapter, released as `adapter` and `merged` in its book."""
    book = create_book(tmp_path_factory.mktemp("released") / "book")
    with pytest.MonkeyPatch.context() as patch:
        answer_here(patch)
        run = train_in(book, "run_1", tiny_gpt2, method="lora")
        release("run_1", book / "adapter", book)
        release("run_1", book / "merged", book, form="merged")
    return run


@pytest.fixture
def folder(released: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the merged release, with the book as the working directory."""
    monkeypatch.chdir(released.book)
    return Path(shutil.copytree(released.book / "merged", tmp_path / "copy"))


Told = Callable[..., tuple[int, str, str]]


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Told:
    """Give a function that runs a command here: its exit code, and what it said and complained."""

    def run(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(word) for word in words])
        found = capsys.readouterr()
        return code, found.out, found.err

    return run


# --- checked ------------------------------------------------------------------------------------


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_release_is_what_it_was_and_tells_whose(folder: Path, told: Told) -> None:
    # The hub and its client put these beside the files; nothing of them is loaded.
    (folder / ".gitattributes").touch()
    (folder / ".cache" / "huggingface").mkdir(parents=True)
    (folder / ".cache" / "huggingface" / "x.metadata").touch()
    code, out, _ = told("release", "--check", folder)
    assert code == 0
    assert "released by run run_1" in out
    assert "merged" in out
    code, out, _ = told("release", "--check", folder, "--run", "run_1", "--json")
    assert code == 0
    assert json.loads(out)["release"]["form"] == "merged"


@pytest.mark.parametrize("name", ["model.safetensors", "README.md", "tokenizer.json", MANIFEST])
def test_one_flipped_bit_of_any_file_is_named(folder: Path, told: Told, name: str) -> None:
    flip(folder / name)
    code, out, err = told("release", "--check", folder)
    assert (code, out) == (1, "")
    assert str(folder / name) in err
    assert "changed since" in err
    assert err.count("\n") == 1


def test_a_missing_and_an_added_file_are_named(folder: Path, told: Told) -> None:
    (folder / "modeling_x.py").touch()
    (folder / "more").mkdir()
    (folder / "more" / "adapter.bin").touch()
    code, _, err = told("release", "--check", folder)
    assert code == 1
    assert f"{folder / 'modeling_x.py'} was not released (and 1 file more)" in err
    (folder / "config.json").unlink()
    code, _, err = told("release", "--check", folder)
    assert code == 1
    assert f"{folder / 'config.json'} is missing" in err
    (folder / MANIFEST).unlink()
    code, _, err = told("release", "--check", folder)
    assert code == 1
    assert "MANIFEST.json is missing" in err


def with_new_manifest(folder: Path) -> None:
    """Write the manifest anew, as whoever changes a file on purpose would."""
    with writing_folder(folder) as aside:
        for path in folder.iterdir():
            if path.name != MANIFEST:
                shutil.copy(path, aside)


def test_a_manifest_that_was_written_anew_does_not_hold_against_the_book(
    folder: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    flip(folder / "model.safetensors")
    (folder / "more.txt").touch()
    with_new_manifest(folder)
    code, _, err = told("release", "--check", folder)
    assert code == 1
    assert "by the record of run run_1" in err
    assert "model.safetensors has other bytes (and 1 file more)" in err
    assert "the manifest was written anew" in err
    # Without the book nothing but the manifest can be asked, and that is said.
    monkeypatch.chdir(folder.parent)
    code, out, _ = told("release", "--check", folder)
    assert code == 0
    assert "the manifest alone was asked" in out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--check", "nowhere"], 2, "nowhere is no folder"),
        (["--check", "adapter", "--run", "run_9"], 2, "has no run `run_9`"),
        (["--check", "adapter", "--run", "other"], 1, "run other has no record of a release"),
        (["run_1", "--check", "adapter"], 2, "--check takes the folder alone"),
        (["run_1"], 2, "name a run and a new folder"),
        (["run_1", "out", "--run", "run_1"], 2, "--run goes with --check"),
        (["run_1", "out", "--private"], 2, "go with --push ORG/NAME"),
        (["run_1", "out", "--push", "alone"], 2, "name the organization or user too"),
        (["run_1", "out", "--push", "a/b/c"], 2, "--push a/b/c: "),
        (["run_1", "out", "--adapter", "--gguf"], 2, "--adapter and --gguf are two releases"),
        (["run_1", "out", "--gguf", "q4"], 2, "'q4' is not one of"),
        (["run_1", "merged", "--push", "a/b", "--adapter"], 2, "merged exists and is not empty"),
    ],
)
def test_what_is_asked_wrongly_is_said_and_nothing_is_written(
    released: RunFolder,
    told: Told,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    code: int,
    said: str,
) -> None:
    monkeypatch.chdir(released.book)
    RunFolder(released.book, "other").path.mkdir(exist_ok=True)
    found, _, err = told("release", *words)
    assert found == code
    assert said in err
    assert not (released.book / "out").exists()


# --- as GGUF ------------------------------------------------------------------------------------

_CONVERTER = """#!{python}
import json, os, sys
folder = sys.argv[1]
assert os.path.exists(os.path.join(folder, "model.safetensors"))
json.dump(sys.argv[1:], open({asked!r}, "w"))
{act}
"""
_WRITES = "open(sys.argv[sys.argv.index('--outfile') + 1], 'wb').write(b'GGUF' + b'x' * 9)"


def converter(tmp_path: Path, act: str = _WRITES) -> tuple[Path, Path]:
    """Write a converter that keeps its arguments and does one thing; gives its folder and them."""
    place = tmp_path / "llama.cpp"
    place.mkdir()
    asked = tmp_path / "asked.json"
    script = place / SCRIPT
    script.write_text(_CONVERTER.format(python=os.sys.executable, asked=str(asked), act=act))
    script.chmod(0o755)
    return place, asked


@pytest.mark.parametrize("by", ["PATH", "LLAMA_CPP"])
def test_the_verified_merge_is_given_to_the_converter_of_llama_cpp(
    released: RunFolder,
    tmp_path: Path,
    told: Told,
    monkeypatch: pytest.MonkeyPatch,
    by: str,
) -> None:
    place, asked = converter(tmp_path)
    answer_here(monkeypatch)
    monkeypatch.chdir(released.book)
    if by == "PATH":
        monkeypatch.delenv(VARIABLE, raising=False)
        monkeypatch.setenv("PATH", str(place), prepend=os.pathsep)
    else:
        monkeypatch.setenv(VARIABLE, str(place))
    out = tmp_path / "out"
    words = ["--gguf", "f16"] if by == "PATH" else ["--gguf"]
    code, said, _ = told("release", "run_1", out, *words)
    assert code == 0
    kind = "f16" if by == "PATH" else "f32"  # what the weights are stored as
    assert f"gguf: run_1-{kind}.gguf, made by {SCRIPT}, not verified" in said
    given = json.loads(asked.read_text())
    assert given[1:] == ["--outfile", str(Path(given[0]) / f"run_1-{kind}.gguf"), "--outtype", kind]
    assert f"run_1-{kind}.gguf" in read_manifest(out)
    assert f"`run_1-{kind}.gguf`" in (out / "README.md").read_text("utf-8")
    newest = read_releases(released)[-1]
    assert newest.form == "merged"
    assert newest.gguf is not None
    assert newest.gguf.file in newest.files
    assert told("release", "--check", out)[0] == 0


def test_without_the_converter_nothing_is_written(
    released: RunFolder, tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(released.book)
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    code, out, err = told("release", "run_1", tmp_path / "out", "--gguf")
    assert (code, out) == (2, "")
    assert f"neither in $LLAMA_CPP ({tmp_path}) nor on PATH" in err
    assert err.count("\n") == 1
    monkeypatch.delenv(VARIABLE)
    assert "$LLAMA_CPP (not set)" in told("release", "run_1", tmp_path / "out", "--gguf")[2]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("act", "why"),
    [
        ("sys.exit('Model X is not supported')", "Model X is not supported"),
        ("pass", "it ended well and wrote nothing"),
        (_WRITES.replace("GGUF", "HTML"), "what it wrote is no GGUF file"),
    ],
)
def test_a_converter_that_fails_leaves_the_release_without_its_file(
    released: RunFolder,
    tmp_path: Path,
    told: Told,
    monkeypatch: pytest.MonkeyPatch,
    act: str,
    why: str,
) -> None:
    place, _ = converter(tmp_path, act)
    answer_here(monkeypatch)
    monkeypatch.chdir(released.book)
    monkeypatch.setenv(VARIABLE, str(place))
    out = tmp_path / "out"
    code, _, err = told("release", "run_1", out, "--gguf")
    assert code == 1
    assert f"made no GGUF file: {why}; {out} is kept without it" in err
    assert not list(out.glob("*.gguf"))
    assert "gguf" not in (out / "README.md").read_text("utf-8").lower()
    assert told("release", "--check", out)[0] == 0


# --- pushed -------------------------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, released: RunFolder) -> Iterator[HubServer]:
    """A hub that the commands of this test speak to, with a token that it takes."""
    with serve_hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
        monkeypatch.setenv("HF_HOME", str(released.book / "no-login"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.delenv("HF_HUB_OFFLINE")
        yield server


def push(run: RunFolder, *words: str) -> subprocess.CompletedProcess[str]:
    return tunebook(run.book, "release", "run_1", "merged", "--merged", "--push", "org/m", *words)


def test_a_release_is_pushed_whole_and_its_card_with_it(
    released: RunFolder, hub: HubServer
) -> None:
    done = push(released, "--private", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["push"]["commit"] == f"{hub.url}/org/m/commit/1"
    repo = hub.repos["org/m"]
    assert repo.private
    sent = repo.branches["main"]
    merged = released.book / "merged"
    assert {name: merged.joinpath(name).read_bytes() for name in sent} == sent
    assert sent.keys() == {*read_manifest(merged), MANIFEST}
    assert hub.cards
    assert TOKEN not in done.stdout + done.stderr
    # A branch begins as main is, and what is not of this release is named.
    sent["old.safetensors"] = b""
    done = push(released, "--revision", "v2")
    assert done.returncode == 0, done.stderr
    assert repo.branches["v2"].keys() == sent.keys()
    assert "org/m also holds old.safetensors of before" in done.stderr


def test_a_dry_run_says_what_it_would_do_and_asks_nobody(
    released: RunFolder, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = push(released, "--dry-run", "--private", "--revision", "v2")
    assert done.returncode == 0, done.stderr
    assert hub.asked == []
    assert "to org/m, v2\nvisibility: private\n" in done.stdout
    for name in (*read_manifest(released.book / "merged"), MANIFEST):
        assert f"  {name} " in done.stdout
    assert "create_repo('org/m', private=True, exist_ok=True)" in done.stdout
    assert TOKEN not in done.stdout + done.stderr
    assert hub.asked == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"HF_TOKEN": ""}, "there is no token; set HF_TOKEN"),
        ({"HF_TOKEN": "hf_wrong"}, "the hub does not take the token (401)"),
        ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set; unset it"),
        ({"HF_ENDPOINT": "http://127.0.0.1:9"}, "Connection refused; check the network"),
    ],
)
def test_a_push_that_fails_is_one_sentence_and_the_folder_is_kept(
    released: RunFolder,
    hub: HubServer,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, str],
    said: str,
) -> None:
    for name, value in change.items():
        monkeypatch.setenv(name, value)
    done = push(released)
    assert done.returncode == 1
    assert said in done.stderr
    assert "merged is kept, and the same command pushes it" in done.stderr
    assert done.stderr.count("\n") == 1
    assert TOKEN not in done.stdout + done.stderr
    assert (released.book / "merged" / MANIFEST).is_file()
    assert not hub.repos


def test_a_server_that_repeats_the_token_has_it_taken_out(
    released: RunFolder, hub: HubServer
) -> None:
    hub.fail["/repos/create"] = 418
    done = push(released)
    assert done.returncode == 1
    assert "the hub answered 418" in done.stderr
    assert TOKEN not in done.stdout + done.stderr


def test_private_weights_are_not_sent_to_a_public_repository(
    released: RunFolder, hub: HubServer
) -> None:
    assert push(released).returncode == 0
    hub.repos["org/m"].branches["main"].clear()
    done = push(released, "--private")
    assert done.returncode == 1
    assert "org/m is there already and public, and --private was asked for" in done.stderr
    assert hub.repos["org/m"].branches == {"main": {}}


def test_what_is_no_longer_what_was_released_is_not_pushed(
    released: RunFolder, hub: HubServer, tmp_path: Path
) -> None:
    kept = Path(shutil.copytree(released.book / "merged", tmp_path / "kept"))
    flip(released.book / "merged" / "model.safetensors")
    try:
        done = push(released)
    finally:
        shutil.copy(kept / "model.safetensors", released.book / "merged")
    assert done.returncode == 1
    assert "model.safetensors is not what was released" in done.stderr
    assert hub.asked == []


def test_memory_of_a_release_is_not_needed_to_push_it_again(
    folder: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=0))
    words = ("--merged", "--push", "org/m", "--dry-run", "--json")
    code, out, _ = told("release", "run_1", "merged", *words)
    assert code == 0
    assert json.loads(out)["push"]["dry_run"]
