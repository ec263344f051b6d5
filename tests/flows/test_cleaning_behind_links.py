"""A stranger's book may hold links: nothing outside of the book is deleted through one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from made_runs import make_run
from tunebook.book.checkpoints import (
    clear_stale_folders,
    list_checkpoints,
    rotate_checkpoints,
    writing_checkpoint,
)
from tunebook.book.places import RunFolder
from tunebook.cli.main import main
from tunebook.errors import BookError

TOKENS, ASIDE = "ab" * 32, ".tmp-" + "cd" * 8
SERVED = "ef" * 8
STRANGE = (TOKENS, ASIDE, SERVED, "step-1", "step-2", ".tmp-9-4194305", ".old-x-4194305", "mine")


@pytest.fixture
def far(tmp_path: Path) -> Path:
    """A folder outside of the book, with whatever a deletion looks for."""
    folder = tmp_path / "far"
    for name in STRANGE:
        (folder / name).mkdir(parents=True)
        (folder / name / "precious").write_text("x")
    return folder


def whole_but(far: Path, *more: str) -> bool:
    """Tell whether a folder holds what it held, some files that were laid there, and no more."""
    return whole(far) and {path.name for path in far.iterdir()} == {*STRANGE, *more}


def whole(far: Path) -> bool:
    """Tell whether nothing was taken from the folder, or renamed in it."""
    return sorted(STRANGE) == sorted(
        path.name for path in far.iterdir() if (path / "precious").exists()
    )


def said(capsys: pytest.CaptureFixture[str], code: int) -> str:
    assert main(["clean"]) == code
    out, err = capsys.readouterr()
    return out + err


@pytest.mark.parametrize("name", [".tunebook/cache", ".tunebook/served"])
def test_caches_behind_a_link_are_told_of_and_stay(
    book: Path,
    far: Path,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(book)
    (book / name).symlink_to(far)
    assert f"{name} is a link to {far}, and tunebook deletes nothing" in said(capsys, 0)
    assert whole(far)


def test_a_linked_folder_of_throw_away_files_is_told_of_and_stays(
    book: Path, far: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(book)
    for kind, entry in (("cache", TOKENS), ("served", SERVED)):
        (far / kind / entry).mkdir(parents=True)
    (book / ".tunebook" / ".gitignore").unlink()
    (book / ".tunebook").rmdir()
    (book / ".tunebook").symlink_to(far)
    assert ".tunebook is a link to" in said(capsys, 0)
    assert whole(far)
    assert (far / "cache" / TOKENS).is_dir()
    assert (far / "served" / SERVED).is_dir()


def test_only_what_tunebook_makes_is_taken_from_the_caches(
    book: Path, far: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(book)
    made = {"cache": [TOKENS, ASIDE, f"tokenizer-{'0' * 32}"], "served": [SERVED]}
    for kind, names in made.items():
        for name in [*names, "thesis", "0123"]:
            (book / ".tunebook" / kind / name).mkdir(parents=True)
        (book / ".tunebook" / kind / "letter.txt").write_text("mine")
        (book / ".tunebook" / kind / ("1" * len(names[0]))).symlink_to(far)
    assert "freed" in said(capsys, 0)
    for kind, names in made.items():
        left = {path.name for path in (book / ".tunebook" / kind).iterdir()}
        assert left == {"thesis", "0123", "letter.txt", "1" * len(names[0])}
    assert whole(far)


@pytest.mark.parametrize("link", ["runs/a/checkpoints", "runs/zz"])
def test_a_linked_run_is_left_as_it_is_and_the_others_are_cleaned(
    book: Path,
    far: Path,
    link: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(book)
    make_run(book, "a").final.mkdir()
    other = make_run(book, "other", state="paused")
    (other.checkpoints / ".tmp-3-4194305").mkdir(parents=True)
    (far / "final").mkdir()
    (far / "checkpoints").mkdir()
    (far / "checkpoints" / "step-1").mkdir()
    (book / link).symlink_to(far)
    words = said(capsys, 0)
    if link == "runs/a/checkpoints":  # the other is no run at all
        assert (
            f"{link} is a link to {far}, and tunebook writes and deletes nothing behind a link"
            in words
        )
    assert "left half-written  runs/other/checkpoints/.tmp-3-4194305" in words
    assert whole(far)
    assert (far / "checkpoints" / "step-1").is_dir()
    assert list(other.checkpoints.iterdir()) == []


@pytest.mark.parametrize("link", ["runs/a/checkpoints", "runs/a"])
def test_rotation_refuses_to_delete_behind_a_link(book: Path, far: Path, link: str) -> None:
    (far / "checkpoints").mkdir()
    for step in (1, 2, 3):
        (far / "checkpoints" / f"step-{step}").mkdir()
    (book / link).parent.mkdir(exist_ok=True)
    (book / link).symlink_to(far)
    run = RunFolder(book, "a")
    with pytest.raises(BookError, match=f"{link} is a link to"):
        rotate_checkpoints(run, 1, set())
    with pytest.raises(BookError, match=f"{link} is a link to"):
        clear_stale_folders(run)
    assert whole(far)
    assert len(list((far / "checkpoints").iterdir())) == 3


def test_a_checkpoint_that_is_a_link_is_none(book: Path, far: Path) -> None:
    run = make_run(book, "a")
    for step in (2, 3):
        with writing_checkpoint(run, step) as path:
            (path / "w").write_text("x")
    for name in ("step-1", ".tmp-4-4194305", ".old-step-7-4194305"):
        (run.checkpoints / name).symlink_to(far)
    assert [path.name for path in list_checkpoints(run)] == ["step-2", "step-3"]
    rotate_checkpoints(run, 1, set())
    left = {".old-step-7-4194305", ".tmp-4-4194305", "step-1", "step-3"}
    assert {path.name for path in run.checkpoints.iterdir()} == left
    assert whole(far)


def test_a_book_whose_runs_are_elsewhere_is_cleaned_as_any_other(
    book: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(book)
    os.rename(book / "runs", tmp_path / "large")
    (book / "runs").symlink_to(tmp_path / "large")
    run = make_run(book, "a", state="paused")
    for step in (1, 2):
        with writing_checkpoint(run, step) as path:
            (path / "w").write_text("x")
    assert "superseded checkpoint  runs/a/checkpoints/step-1" in said(capsys, 0)
    assert [path.name for path in list_checkpoints(run)] == ["step-2"]


@pytest.mark.parametrize("link", ["runs/a/checkpoints", "runs/a"])
def test_a_linked_run_is_refused_before_it_is_trained(
    book: Path,
    far: Path,
    link: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(book)
    run = make_run(book, "a", state="paused")
    if link == "runs/a":
        os.rename(run.path, far / "a")
        (book / link).symlink_to(far / "a")
    else:
        (book / link).symlink_to(far)
    assert main(["resume", "a"]) == 2
    assert f"{link} is a link to" in capsys.readouterr().err


def test_a_new_run_whose_folder_is_a_link_writes_nothing_behind_it(
    book: Path, far: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(book)
    (book / "x.txt").write_text("some words\n" * 50)
    text = "name: a\nmodel: tunebook/tiny\nstage: cpt\ndata: [{path: x.txt}]\n"
    (book / "a.yaml").write_text(text)
    (far / "run.yaml").write_text(text)
    (book / "runs" / "a").symlink_to(far)
    assert main(["train", "a.yaml"]) == 2
    assert "runs/a is a link to" in capsys.readouterr().err
    assert whole_but(far, "run.yaml")
