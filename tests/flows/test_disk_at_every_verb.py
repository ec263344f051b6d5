"""A disk that is full or read-only, and a folder that is gone, under any verb: one sentence."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from made_runs import make_run
from tunebook.cli.main import main
from tunebook.errors import StorageError
from tunebook.workflows.train import train_run

SCRIPTS = Path(__file__).resolve().parents[2] / "benchmarks" / "faults_io"


def refuse(number: int) -> Callable[..., Any]:
    def call(*_args: object, **_options: object) -> None:
        raise OSError(number, os.strerror(number), "/disk/file")

    return call


def test_a_name_is_free_again_when_its_run_file_did_not_fit(
    book: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(book)
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", refuse(errno.ENOSPC))
        assert main(["new", "run_1"]) == 1
    assert "the disk is full" in capsys.readouterr().err
    assert main(["new", "run_1"]) == 0


def test_a_folder_is_no_book_when_its_mark_did_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", refuse(errno.ENOSPC))
        assert main(["init", "mine"]) == 1
    assert "the disk is full" in capsys.readouterr().err
    assert main(["init", "mine"]) == 0
    assert (tmp_path / "mine" / "tunebook.yaml").stat().st_size > 0


def test_a_folder_is_no_book_when_its_pages_did_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(_book: Path) -> None:
        raise StorageError("the disk is full: cannot write notebook.md; 0 B free; free space")

    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("tunebook.workflows.init.build_notebook", full)
        assert main(["init", "mine"]) == 1
    assert "the disk is full" in capsys.readouterr().err
    assert main(["init", "mine"]) == 0


def test_of_two_files_of_games_none_is_left_when_one_did_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("games.jsonl").write_text('{"Moves": "e2e4 e7e5 d1h5 b8c6 f1c4 g8f6 h5f7"}\n')
    words = ["data", "chess", "games.jsonl", "--task", "next_move", "--out", "moves.jsonl"]
    words += ["--pgn", "games.pgn"]
    real, synced = os.fsync, []

    def second(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        if "moves" in synced[-1]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    with monkeypatch.context() as full:
        full.setattr(os, "fsync", second)
        assert main(words) == 1
    assert "the disk is full" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["games.jsonl"]
    assert main(words) == 0


def test_an_index_that_did_not_fit_is_not_said_to_be_made(
    book: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(book, "run_1")
    monkeypatch.chdir(book)
    with monkeypatch.context() as full:
        full.setattr("tunebook.book.index.store_rows", lambda *_: "No space left")
        assert main(["reindex"]) == 1
    assert "cannot be written: No space left" in capsys.readouterr().err
    assert main(["reindex"]) == 0


def test_a_training_that_only_lacks_its_pages_says_so(
    book: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(_book: Path, _say: object) -> None:
        raise StorageError("the disk is full: cannot write notebook.md; 0 B free; free space")

    run = make_run(book, "run_1")
    monkeypatch.setattr("tunebook.workflows.train.train_in_child", lambda *_: None)
    monkeypatch.setattr("tunebook.workflows.notebook.build_notebook", full)
    with pytest.raises(StorageError, match="run run_1 is finished, and `tunebook notebook build`"):
        train_run(run, lambda _kind, _payload: None)


@pytest.mark.parametrize("target", ["nowhere/at/all", "mine"])
def test_a_book_is_not_made_of_a_link_that_leads_nowhere(
    tmp_path: Path, target: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").symlink_to(target)
    assert main(["init", "mine"]) == 2
    assert "mine is a link that leads to no folder" in capsys.readouterr().err


def test_a_run_file_in_a_folder_whose_name_is_no_text_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    assert main(["init", str(folder)]) == 0
    monkeypatch.chdir(folder)
    (folder / "a.yaml").write_text("name: a\nmodel: tunebook/tiny\ndata: [{path: rows.json}]\n")
    assert main(["train", "a.yaml"]) == 2
    assert "is in a folder whose name is not UTF-8" in capsys.readouterr().err


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_page_says_what_a_disk_refused_and_calls_it_no_bug(
    book: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastapi.testclient import TestClient

    from tunebook.web.app import make_app

    make_run(book, "run_1")
    client = TestClient(make_app(book), base_url="http://127.0.0.1")
    monkeypatch.setattr("tunebook.web.writing.write_note", refuse(number))
    csrf = client.app.state.desk.guard.csrf  # type: ignore[attr-defined]
    answer = client.post("/runs/run_1/note", data={"text": "seen", "csrf": csrf})
    assert answer.status_code == 507
    assert "cannot write /disk/file" in answer.text
    assert "bug" not in answer.text


def test_an_import_that_only_lacks_its_pages_says_so(
    book: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(_book: Path) -> None:
        raise StorageError("the disk is full: cannot write notebook.md; 0 B free; free space")

    monkeypatch.chdir(book)
    (book / "log.csv").write_text("step,loss\n" + "".join(f"{n},{3 / n}\n" for n in range(1, 9)))
    with monkeypatch.context() as patch:
        patch.setattr("tunebook.workflows.import_runs.build_notebook", full)
        assert main(["import", "log.csv", "--name", "theirs"]) == 1
    assert "in the book, and `tunebook notebook build` writes its pages" in capsys.readouterr().err
    assert main(["notebook", "build"]) == 0
    assert (book / "runs" / "theirs" / "notebook.md").exists()


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.ENOSPC, "the disk is full: cannot write /disk/file"),
        (errno.EDQUOT, "the disk quota is used up: cannot write /disk/file"),
        (errno.EROFS, "is read-only: cannot write /disk/file"),
        (errno.ENOENT, "/disk/file is not there; was it moved or deleted meanwhile?"),
        (errno.ESTALE, "/disk/file is not there; was it moved or deleted meanwhile?"),
        (errno.ENOTDIR, "/disk/file cannot be there: a file stands where its path has a folder"),
        (errno.ENAMETOOLONG, "is too long for this system; choose a shorter one"),
        (errno.ELOOP, "/disk/file is a link that leads to itself; take it away, or name another"),
        (errno.EMFILE, "cannot open /disk/file: Too many open files"),
        (errno.EIO, "cannot use /disk/file: Input/output error"),
    ],
)
def test_what_a_disk_refuses_where_nobody_expects_it_is_no_bug(
    book: Path,
    number: int,
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make_run(book, "run_1")
    monkeypatch.chdir(book)
    monkeypatch.setattr("tunebook.workflows.runs.list_runs", refuse(number), raising=True)
    assert main(["runs"]) == 1
    said = capsys.readouterr().err
    assert sentence in said
    assert "bug" not in said


def test_a_folder_deleted_under_a_command_is_said(tmp_path: Path) -> None:
    program = (
        "import os, shutil, sys; from tunebook.cli.main import main; os.mkdir('here');"
        "os.chdir('here'); os.rmdir(os.getcwd()); sys.exit(main(sys.argv[1:]))"
    )
    for words in (["runs"], ["init", "mine"], ["train", "a.yaml"], ["data", "show", "x.json"]):
        done = subprocess.run(
            [sys.executable, "-c", program, *words],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode in (1, 2), words
        assert "bug" not in done.stderr, words
        assert "Traceback" not in done.stderr, words


def run_script(*options: str) -> str:
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / "every_verb.py"), *options],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return done.stdout


@pytest.mark.slow
def test_every_verb_ends_in_a_sentence_on_a_disk_that_is_full_read_only_or_gone() -> None:
    said = run_script("--count", "4", "--gone", "3")
    assert "left out" in said or " 0  wrong" in said
