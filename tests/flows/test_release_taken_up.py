"""A push takes up what was released before where it is what is asked for now, and else says so."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from made_runs import make_run
from tunebook.book.checkpoints import read_manifest, writing_folder
from tunebook.book.places import RunFolder
from tunebook.book.releases import Gguf, Release, Verification, add_release, read_releases
from tunebook.cli.main import main
from tunebook.errors import UsageError
from tunebook.workflows.release_folder import released_before

RELEASE = Release(
    run="run_1",
    weights="best",
    step=5,
    form="merged",
    to="out",
    precision="fp16",
    base="base",
    base_weights=None,
    files={},
    verification=Verification(16, 300, "held-out examples", 1e-5, 1e-6, 1e-3, 1e-3, "the same"),
    tunebook="0.1.0",
    released="2026-01-01T00:00:00Z",
)
Released = Callable[..., RunFolder]


@pytest.fixture
def released(book: Path) -> Released:
    """Give a function that writes down a release of run_1 at `out`, whose best is step 5."""

    def write(**changes: object) -> RunFolder:
        run = make_run(book, "run_1")
        for step in (5, 10):
            (run.checkpoints / f"step-{step}").mkdir(parents=True)
        point(run.best, run.checkpoints / "step-5")
        with writing_folder(book / "out") as folder:
            (folder / "model.safetensors").write_bytes(b"weights")
        files = {name: one["sha256"] for name, one in read_manifest(book / "out").items()}
        add_release(run, dataclasses.replace(RELEASE, files=files, **changes))
        return run

    return write


def point(link: Path, folder: Path) -> None:
    link.unlink(missing_ok=True)
    link.symlink_to(folder, target_is_directory=True)


def test_best_that_has_moved_is_not_taken_up(released: Released, book: Path) -> None:
    run = released()
    asked = {"form": "merged", "weights": "best"}
    assert released_before("run_1", book / "out", book, **asked) == read_releases(run)[-1]
    point(run.best, run.checkpoints / "step-10")
    with pytest.raises(UsageError, match=r"out holds best of step 5, and best is step 10 now;"):
        released_before("run_1", book / "out", book, **asked)


def test_a_gguf_file_of_another_type_is_not_taken_up(released: Released, book: Path) -> None:
    run = released(gguf=Gguf("run_1-f16.gguf", "f16", "convert_hf_to_gguf.py"))
    newest = read_releases(run)[-1]
    asked = {"form": "merged", "weights": "best"}
    for same in (None, "f16", "as-stored"):
        assert released_before("run_1", book / "out", book, **asked, gguf=same) == newest
    with pytest.raises(UsageError, match=r"out holds a GGUF file of type f16, and --gguf q8_0 "):
        released_before("run_1", book / "out", book, **asked, gguf="q8_0")


def test_a_release_without_gguf_is_not_pushed_where_one_is_asked_for(
    released: Released,
    book: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    released()
    (tmp_path / "convert_hf_to_gguf.py").touch()
    monkeypatch.setenv("LLAMA_CPP", str(tmp_path))
    monkeypatch.chdir(book)
    words = ["--from", "best", "--gguf", "f16", "--push", "org/m", "--dry-run"]
    assert main(["release", "run_1", "out", *words]) == 2
    said = capsys.readouterr().err
    assert "out holds no GGUF file, and --gguf f16 was asked for; name a new folder" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--push", "org/m"], "--push"),
        (["--merged"], "--merged"),
        (["--adapter"], "--adapter"),
        (["--gguf", "f16"], "--gguf"),
        (["--from", "best"], "--from"),
        (["--from", "final"], "--from"),
        (["--dry-run"], "--dry-run"),
        (["--private", "--revision", "v2"], "--private and --revision"),
    ],
)
def test_a_check_takes_nothing_that_it_would_not_do(
    released: Released,
    book: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    named: str,
) -> None:
    released()
    monkeypatch.chdir(book)
    assert main(["release", "--check", "out"]) == 0
    capsys.readouterr()
    assert main(["release", "--check", "out", *words]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert f"--check releases nothing and takes no {named}; leave it out" in told.err
    assert told.err.count("\n") == 1
