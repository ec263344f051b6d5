"""A link in a book is neither written through nor passed over without a word."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from made_runs import make_run
from tunebook.book import index_file
from tunebook.book.checkpoints import list_checkpoints, rotate_checkpoints, writing_checkpoint
from tunebook.book.evaluations import open_log
from tunebook.book.events import EventWriter, next_attempt, read_events
from tunebook.book.index import Index, run_summaries
from tunebook.book.index_file import index_path
from tunebook.book.lineage import steps_started_from
from tunebook.book.places import RunFolder
from tunebook.cli.main import main
from tunebook.errors import BookError
from tunebook.web.app import make_app
from tunebook.workflows.notebook import build_last, build_notebook
from tunebook.workflows.run_folder import write_folder

WRITTEN = ("events", "evaluations", "checkpoints", "final", "tensorboard")


@pytest.fixture
def here(book: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(book)
    return book


@pytest.fixture
def far(tmp_path: Path) -> Path:
    (tmp_path / "far").mkdir()
    return tmp_path / "far"


def move_behind_a_link(path: Path, far: Path) -> Path:
    """Put a folder elsewhere with a link in its place; gives where it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        shutil.move(path, far / path.name)
    else:
        (far / path.name).mkdir()
    path.symlink_to(far / path.name)
    return far / path.name


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# --- a folder of a run ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", WRITTEN)
def test_no_linked_folder_of_a_run_is_written_when_it_is_resumed(
    here: Path, far: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(here, "a", state="paused")
    there = move_behind_a_link(run.path / name, far)
    before = contents(far), contents(run.path)
    assert main(["resume", "a"]) == 2
    err = capsys.readouterr().err
    assert f"runs/a/{name} is a link to {there}, and tunebook writes and deletes nothing" in err
    assert "put what it leads to in its place, or make all of `runs` a link to keep" in err
    assert err.count("\n") == 1
    assert (contents(far), contents(run.path)) == before


@pytest.mark.parametrize("name", [*WRITTEN, "train.log"])
def test_no_linked_folder_of_a_new_run_is_written_when_it_is_trained(
    here: Path, far: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "x.txt").write_text("some words\n" * 50)
    run = RunFolder(here, "a")
    run.path.mkdir()
    run.run_yaml.write_text(
        "name: a\nmodel: tunebook/tiny\nstage: cpt\ndata: [{path: ../../x.txt}]\n"
    )
    move_behind_a_link(run.path / name, far)
    assert main(["train", "a"]) == 2
    assert f"runs/a/{name} is a link to" in capsys.readouterr().err
    assert contents(far) == {}
    assert sorted(path.name for path in run.path.iterdir()) == sorted([name, "run.yaml"])


def test_a_process_that_trains_a_run_writes_no_event_through_a_link(here: Path, far: Path) -> None:
    run = make_run(here, "a")
    move_behind_a_link(run.events, far)
    before = contents(far)
    with pytest.raises(BookError, match="runs/a/events is a link to"):
        EventWriter(run, 2)
    assert contents(far) == before


def test_no_evaluation_is_written_through_a_link(here: Path, far: Path) -> None:
    run = make_run(here, "a")
    move_behind_a_link(run.evaluations, far)
    with (
        pytest.raises(BookError, match="runs/a/evaluations is a link to"),
        open_log(run, "probe", "final", {}),
    ):
        pass
    with pytest.raises(BookError, match="runs/a/evaluations is a link to"):
        write_folder(run, "", "")
    assert contents(far) == {}


@pytest.mark.parametrize("link", ["runs/base/events", "runs/base/events/x.jsonl"])
def test_a_finished_run_whose_log_is_behind_a_link_is_not_called_paused(
    here: Path, far: Path, link: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(here, "base")
    make_run(here, "other")
    if link.endswith(".jsonl"):
        [log] = run.events.iterdir()
        os.rename(log, run.events / "x.jsonl")
    move_behind_a_link(here / link, far)
    for read in (read_events, next_attempt):
        with pytest.raises(BookError, match=f"{link} is a link to .*, and it is not read"):
            read(run)
    assert main(["show", "base"]) == 2
    out, err = capsys.readouterr()
    assert "paused" not in out + err
    assert f"{link} is a link to {far}" in err
    assert main(["runs"]) == 0
    out, err = capsys.readouterr()
    assert "other" in out
    [row] = [line for line in out.splitlines() if "base" in line]
    assert "unknown" in row
    assert "paused" not in row
    [told] = err.splitlines()
    assert told.startswith("run base cannot be read: ")
    assert f"{link} is a link to {far}" in told
    glanced = Index(here)
    glanced.refresh(anew=True)
    assert {n: s.state for n, (s, _) in glanced.runs().items()} == {
        "base": "unknown",
        "other": "finished",
    }
    said: list[str] = []
    build_notebook(here, said.append)
    assert [text for text in said if f"{link} is a link to {far}" in text] == said != []
    assert (here / "runs" / "other" / "notebook.md").exists()
    assert main(["clean", "--dry-run"]) == 0
    client = TestClient(make_app(here), base_url="http://127.0.0.1")
    assert {client.get(at).status_code for at in ("/", "/runs/base", "/runs/other")} == {200}


def test_a_run_with_a_broken_log_is_named_below_the_list(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(here, "fine")
    run = make_run(here, "torn")
    [log] = run.events.iterdir()
    log.write_text("no event\n" + log.read_text())
    for _ in range(2):  # the second time out of the index
        assert main(["runs"]) == 0
        out, err = capsys.readouterr()
        assert "fine" in out
        assert err.startswith("run torn cannot be read: ")
        assert err.endswith("restore the file or cut the line\n")


# --- a log put together of two -------------------------------------------------------------------


def twice(run: RunFolder) -> None:
    """Add a log of the same attempt as another host wrote it, with other kinds of events."""
    [log] = run.events.iterdir()
    lines = log.read_text().splitlines(keepends=True)
    at = {line.split('"seq":')[1].split(",")[0]: line for line in lines}
    other = next(line for line in lines if '"kind":"sample"' in line)
    validation = next(line for line in lines if '"kind":"validation"' in line)
    number = validation.split('"seq":')[1].split(",")[0]
    assert number in at
    own = other.split('"seq":')[1].split(",")[0]
    moved = other.replace(f'"seq":{own},', f'"seq":{number},', 1)
    (run.events / "zz-1.jsonl").write_text(moved.replace('Z"', '1Z"', 1))


def test_events_of_two_files_with_the_same_number_are_not_taken_for_each_other(here: Path) -> None:
    run = make_run(here, "a")
    before = read_events(run)
    twice(run)
    after = read_events(run)
    assert [type(one).__name__ for one in after.samples] == ["Sample"] * 3
    assert after.validations == before.validations
    said: list[str] = []
    build_notebook(here, said.append)
    assert said == []
    assert run.notebook_md.exists()


def test_a_page_that_a_bug_keeps_from_being_written_holds_up_no_other(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tunebook.workflows import notebook

    make_run(here, "a")
    make_run(here, "b")
    render = notebook.render_run_page

    def broken(source: object) -> str:
        if source.run.name == "a":  # type: ignore[attr-defined]
            raise AttributeError("nothing has no prompt")
        return render(source)  # type: ignore[arg-type]

    monkeypatch.setattr(notebook, "render_run_page", broken)
    said: list[str] = []
    changed = build_notebook(here, said.append)
    assert [path.parent.name for path in changed] == ["mybook", "b"]
    assert said == [
        "the page of a stays as it was: this is a bug in tunebook: AttributeError: nothing has no "
        "prompt"
    ]


# --- a linked run --------------------------------------------------------------------------------


def test_a_checkpoint_that_a_linked_run_started_from_stays(
    here: Path, far: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = make_run(here, "base", state="paused")
    for step in (1, 2, 3):
        with writing_checkpoint(base, step) as path:
            (path / "w").write_text("x")
    child = make_run(here, "child", model="run:base/step-2")
    move_behind_a_link(child.path, far)
    assert steps_started_from(base) == {2}
    assert main(["clean"]) == 0
    assert "step-2" not in capsys.readouterr().out
    rotate_checkpoints(base, 1, set())
    assert [path.name for path in list_checkpoints(base)] == ["step-2", "step-3"]


@pytest.mark.timeout(30)
def test_odd_files_of_a_linked_run_are_passed_over(here: Path, far: Path) -> None:
    base = make_run(here, "base")
    child = far / "child"
    child.mkdir()
    os.mkfifo(child / "run.yaml")
    with open(child / "resolved.yaml", "wb") as file:
        file.write(b"model: run:base/step-7\n")
        file.truncate(3 * 2**30)  # a hole: it takes no room on the disk
    (here / "runs" / "child").symlink_to(child)
    (here / "runs" / "endless").symlink_to("/dev")
    assert steps_started_from(base) == {7}


def test_a_linked_run_is_named_where_the_pages_are_written_and_shown(
    here: Path, far: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(here, "a")
    there = move_behind_a_link(make_run(here, "b").path, far)
    client = TestClient(make_app(here), base_url="http://127.0.0.1")
    words = f"is left out: a link to {there}, which is not in the book"
    assert main(["notebook", "build"]) == 0
    assert f"runs/b {words}" in capsys.readouterr().err
    page = client.get("/").text
    assert page.count(f"runs/b {words}") == 1
    (here / "runs" / "b").unlink()


def test_the_list_of_an_open_page_says_when_a_run_becomes_a_link(here: Path, far: Path) -> None:
    make_run(here, "a")
    client = TestClient(make_app(here), base_url="http://127.0.0.1")
    assert "is left out" not in client.get("/").text
    (far / "z").mkdir()
    (here / "runs" / "z").symlink_to(far / "z")
    assert "runs/z is left out" in client.get("/").text
    for number in range(24):
        (here / "runs" / f"z{number}").symlink_to(far / "z")
    page = client.get("/").text
    assert page.count("is left out") == 20
    assert "5 more links are left out" in page
    for path in (here / "runs").glob("z*"):
        path.unlink()
    assert "is left out" not in client.get("/").text


# --- caches, the index, the page of the book -----------------------------------------------------


def test_a_linked_cache_is_left_alone_and_the_runs_are_cleaned(
    here: Path, far: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(here, "a", state="paused")
    (run.checkpoints / ".tmp-3-4194305").mkdir(parents=True)
    tokens = far / "cache" / ("ab" * 32)
    tokens.mkdir(parents=True)
    (here / ".tunebook" / "cache").symlink_to(far / "cache")
    assert main(["clean"]) == 0
    out, err = capsys.readouterr()
    assert f"nothing of .tunebook/cache is deleted: .tunebook/cache is a link to {far}" in err
    assert ".tmp-3-4194305" in out
    assert tokens.is_dir()


def test_reindex_says_of_a_linked_folder_to_put_a_folder_there(
    here: Path, far: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(here, "a")
    move_behind_a_link(here / ".tunebook", far)
    assert main(["reindex"]) == 1
    err = capsys.readouterr().err
    assert ".tunebook is a link, and the index is kept in the book only; put what it leads" in err
    assert "free space" not in err


def test_a_linked_page_of_the_book_is_not_called_up_to_date(
    here: Path, far: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(here, "a")
    assert main(["notebook", "build"]) == 0
    os.rename(here / "notebook.md", far / "notebook.md")
    (here / "notebook.md").symlink_to(far / "notebook.md")
    capsys.readouterr()
    assert main(["notebook", "build"]) == 0
    out, err = capsys.readouterr()
    assert "the page of the book stays as it was" in err
    assert "every page is up to date" not in err
    assert "every other page is up to date" in err
    assert out == ""


def test_the_end_of_a_verb_says_that_the_page_of_the_book_was_not_written(
    here: Path, far: Path
) -> None:
    run = make_run(here, "a")
    (here / "notebook.md").unlink()
    (here / "notebook.md").symlink_to(far / "notebook.md")
    said: list[str] = []
    build_last(here, f"run {run.name} is finished", said.append)
    [told] = said
    assert told.startswith("the page of the book stays as it was: ")


@pytest.mark.parametrize(
    ("code", "usable"),
    [
        (sqlite3.SQLITE_PROTOCOL, True),  # "locking protocol", as a network share gives it
        (sqlite3.SQLITE_IOERR_LOCK, True),
        (sqlite3.SQLITE_READONLY_DBMOVED, True),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, True),
        (sqlite3.SQLITE_CORRUPT, False),
        (sqlite3.SQLITE_NOTADB, False),
        (sqlite3.SQLITE_ERROR, False),
    ],
)
def test_the_index_is_deleted_only_for_what_is_its_own_fault(
    here: Path, monkeypatch: pytest.MonkeyPatch, code: int, usable: bool
) -> None:
    make_run(here, "a")
    run_summaries(here)
    assert index_path(here).exists()

    class Fault(sqlite3.OperationalError):
        sqlite_errorcode = code

    def fail(_book: Path) -> None:
        raise Fault("it does not work")

    monkeypatch.setattr(index_file, "_open", fail)
    assert index_file.load_rows(here) == {}
    assert index_path(here).exists() is usable
