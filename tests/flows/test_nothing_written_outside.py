"""A link that comes with somebody's book leads no writing out of it, wherever in the book it is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from test_train_flow import tunebook, write_run

from made_runs import make_run, make_step
from tunebook.book.atomic import write_atomically
from tunebook.book.content import weights_hash
from tunebook.book.evaluations import EvaluationLog, open_log
from tunebook.book.events import EventWriter, cut_torn_lines
from tunebook.book.judging import ScoreCache, add_anchor_session
from tunebook.book.places import RunFolder, create_book, make_hidden_dir
from tunebook.book.sweeps import SweepFolder, SweepTrial, add_trial
from tunebook.book.writing import make_folder, open_to_write
from tunebook.cli.main import main
from tunebook.errors import BookError, TunebookError
from tunebook.workflows.report import make_logger
from tunebook.workflows.reporters import reporting

SECRET = b"a token without a line end"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    (folder / "folder").mkdir(parents=True)
    (folder / "file").write_bytes(SECRET)
    return folder


def contents(folder: Path) -> dict[str, tuple[bytes | None, int]]:
    return {
        str(p.relative_to(folder)): (p.read_bytes() if p.is_file() else None, p.stat().st_mtime_ns)
        for p in sorted(folder.rglob("*"))
    }


def trial(folder: SweepFolder) -> None:
    add_trial(folder, SweepTrial("s-001", 1, None, {"seed": 1}))


def log_of(run: RunFolder) -> Path:
    with open_log(run, "loss", "final", {}) as log:
        log.add([{"item_id": "x", "item_hash": "y"}])
        return log.path


def report_log(run: RunFolder) -> None:
    with reporting(run, ["tensorboard"], 1, dict(os.environ), lambda *_: None):
        pass


def events_of_this_process(run: RunFolder) -> Path:
    with EventWriter(run, 2) as events:
        events.write("step", make_step(11))
    return max(run.events.glob("*.jsonl"), key=lambda path: path.stat().st_mtime_ns)


# --- the door itself -----------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["append", "anew", "change"])
def test_no_file_is_opened_to_write_through_a_link(book: Path, outside: Path, how: str) -> None:
    (book / "sweeps").mkdir()
    (book / "sweeps" / "a").symlink_to(outside / "file")
    (book / "sweeps" / "b").symlink_to(outside / "new")
    (book / "sweeps" / "c").symlink_to(outside / "folder")
    before = contents(outside)
    for name in ("a", "b", "c/x"):
        with pytest.raises(
            BookError, match=r"^sweeps/. is a link to .*outside/.*; delete the link"
        ):
            open_to_write(book, book / "sweeps" / name, how)  # type: ignore[arg-type]
    assert contents(outside) == before


@pytest.mark.timeout(10)
@pytest.mark.parametrize("how", ["append", "anew", "change"])
def test_no_pipe_is_waited_for(book: Path, how: str) -> None:
    os.mkfifo(book / "log")
    with pytest.raises(BookError, match=r"^log is a pipe, and is to be written as a file; take"):
        open_to_write(book, book / "log", how)  # type: ignore[arg-type]


def test_a_book_and_all_of_its_runs_may_be_links(tmp_path: Path) -> None:
    real = create_book(tmp_path / "real")
    (real / "runs").rmdir()
    (tmp_path / "disk").mkdir()
    (real / "runs").symlink_to(tmp_path / "disk")
    (tmp_path / "book").symlink_to(real)
    book = tmp_path / "book"
    make_folder(book, book / "runs" / "a")
    for how, there in (("append", b"12"), ("append", b"1212"), ("anew", b"12")):
        with open_to_write(book, book / "runs" / "a" / "log", how) as file:  # type: ignore[arg-type]
            file.write(b"12")
        assert (tmp_path / "disk" / "a" / "log").read_bytes() == there
    with open_to_write(book, book / "runs" / "a" / "log", "change") as file:
        assert file.read() == b"12"
        file.truncate(1)
    assert (tmp_path / "disk" / "a" / "log").read_bytes() == b"1"


def test_what_is_replaced_in_one_step_is_written_under_a_name_of_its_own(
    book: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asides = []
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (asides.append(a), replace(a, b)))
    for _ in range(2):
        write_atomically(book / "notebook.md", "words")
    assert len(set(asides)) == 2
    assert [path.name for path in book.glob(".notebook*")] == []


# --- every file that is written, appended to or emptied ------------------------------------------

FILES: dict[str, tuple[str, Callable[[RunFolder], object]]] = {
    "evaluation log": ("runs/a/evaluations/{log}", log_of),
    "lock of an evaluation": ("runs/a/evaluations/.{lock}", log_of),
    "events": ("runs/a/events/{events}", events_of_this_process),
    "trials": ("sweeps/s/trials.jsonl", lambda run: trial(SweepFolder(run.book, "s"))),
    "judge": (".tunebook/judge/j.jsonl", lambda run: ScoreCache(run, "j").add("k", {})),
    "tracker": ("runs/a/report-tensorboard.log", report_log),
    "lock of pages": (".tunebook/pages.lock", lambda run: main(["note", "a", "words"])),
    "ignored": (".tunebook/.gitignore", lambda run: make_hidden_dir(run.book)),
    "schema": (".tunebook/run.schema.json", lambda run: main(["schema", "--write"])),
    "page": ("runs/a/notebook.md", lambda run: main(["note", "a", "words"])),
    "figure": ("runs/a/curve.svg", lambda run: main(["notebook", "build"])),
    "stop": ("runs/a/stop-requested", lambda run: main(["stop", "a"])),
    "heartbeat": ("runs/a/heartbeat.json", lambda run: main(["stop", "a"])),
}


@pytest.mark.parametrize("there", [True, False], ids=["a file", "nothing"])
@pytest.mark.parametrize("which", FILES)
def test_no_file_in_a_book_is_written_where_a_link_leads(
    book: Path, outside: Path, which: str, there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(book)
    run = make_run(book, "a")
    name, write = FILES[which]
    if "{" in name:
        log = log_of(run)
        lock = f"{log.stem}.lock"
        events = events_of_this_process(run).name
        name = name.format(log=log.name, lock=lock, events=events)
    path = book / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(outside / ("file" if there else "new"))
    before = contents(outside)
    try:
        write(run)
    except (TunebookError, OSError) as error:
        assert "link" in str(error)
    assert contents(outside) == before


FOLDERS: dict[str, Callable[[RunFolder], object]] = {
    "runs/a/evaluations": log_of,
    "runs/a/events": events_of_this_process,
    "runs/a/tensorboard": lambda run: make_logger("tensorboard", run),
    "runs/a/wandb": lambda run: make_logger("wandb", run),
    "sweeps": lambda run: trial(SweepFolder(run.book, "s")),
    "sweeps/s": lambda run: trial(SweepFolder(run.book, "s")),
    "judge-anchor": lambda run: add_anchor_session(run, {}),
    ".tunebook/judge": lambda run: ScoreCache(run, "j").add("k", {}),
    ".tunebook/cache": lambda run: run.cache_dir,
    ".tunebook": lambda run: make_hidden_dir(run.book),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_no_linked_folder_of_a_book_is_written_into(
    book: Path, outside: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    run = make_run(book, "a")
    path = book / name
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(path, ignore_errors=True)
    path.symlink_to(outside / "folder")
    before = contents(outside)
    with pytest.raises(BookError, match=rf"{name} is a link to .*, and tunebook writes .*; "):
        FOLDERS[name](run)
    assert contents(outside) == before


@pytest.mark.parametrize(
    "command",
    [["note", "a", "x"], ["notebook", "build"], ["schema", "--write"], ["runs"], ["show", "a"]],
    ids=lambda command: command[0],
)
def test_a_linked_hidden_folder_is_named_or_left_alone(
    book: Path,
    outside: Path,
    command: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(book)
    make_run(book, "a")
    shutil.rmtree(book / ".tunebook")
    (book / ".tunebook").symlink_to(outside / "folder")
    before = contents(outside)
    assert main(command) in (0, 2)
    assert contents(outside) == before
    assert "bug in tunebook" not in capsys.readouterr().err


def test_the_hash_of_weights_is_not_remembered_outside(book: Path, outside: Path) -> None:
    shutil.rmtree(book / ".tunebook")
    (book / ".tunebook").symlink_to(outside / "folder")
    (book / "weights").mkdir()
    (book / "weights" / "model.safetensors").write_bytes(b"12345678")
    before = contents(outside)
    assert weights_hash(book / "weights", book)
    assert contents(outside) == before


def test_no_torn_line_is_cut_off_another_file(book: Path, outside: Path) -> None:
    run = make_run(book, "a")
    (run.path / "words").write_bytes(b"of the run itself")
    (run.events / "z.jsonl").symlink_to(run.path / "words")
    with pytest.raises(BookError, match=r"z\.jsonl is a link"):
        cut_torn_lines(run)
    log = run.evaluations / "x.jsonl"
    run.evaluations.mkdir()
    log.symlink_to(outside / "file")
    with pytest.raises(BookError, match=r"x\.jsonl is a link"):
        EvaluationLog(log, ()).add([{"item_id": "x", "item_hash": "y"}])
    assert (outside / "file").read_bytes() == SECRET
    assert (run.path / "words").read_bytes() == b"of the run itself"


def test_a_book_is_begun_beside_links_that_lead_nowhere(tmp_path: Path, outside: Path) -> None:
    folder = tmp_path / "found"
    (folder / ".tunebook").mkdir(parents=True)
    (folder / "notebook.md").symlink_to(outside / "new")
    (folder / ".tunebook" / ".gitignore").symlink_to(outside / "newer")
    before = contents(outside)
    create_book(folder)
    assert contents(outside) == before


# --- a tracker takes no settings from a book ------------------------------------------------------


def test_a_tracker_works_in_an_empty_folder_that_is_gone_in_the_end(
    book: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(book)
    said = tmp_path / "said"
    (tmp_path / "sitecustomize.py").write_text(
        "import json, os, sys\n"
        f"open({str(said)!r}, 'w').write(json.dumps([os.getcwd(), os.listdir(), sys.orig_argv]))\n"
    )
    (book / "wandb").mkdir()
    (book / "wandb" / "settings").write_text("[default]\nbase_url = http://127.0.0.1:9\n")
    run = make_run(Path(), "a")  # named from the book, as a path that is not absolute
    source = str(Path(sys.modules["tunebook"].__path__[0]).parent)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{source}"}
    with reporting(run, ["tensorboard"], 1, environment, lambda *_: None):
        pass
    folder, there, argv = json.loads(said.read_text())
    assert there == []
    assert not Path(folder).exists()
    assert book not in (Path(folder), *Path(folder).parents)
    assert str(run.path.absolute()) in argv
    assert (run.tensorboard).is_dir()


def test_no_settings_of_a_book_reach_wandb(book: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    home = book.parent / "home"
    (home / ".config" / "wandb").mkdir(parents=True)
    (home / ".config" / "wandb" / "settings").write_text("[default]\nentity = of-the-user\n")
    (home / ".netrc").write_text(f"machine 127.0.0.1 login user password {'0' * 40}\n")
    (home / ".netrc").chmod(0o600)
    run = make_run(book, "a")
    planted = "[default]\nbase_url = http://127.0.0.1:9\nentity = x\nproject = x\nmode = online\n"
    for folder in (book / "wandb", run.path / "wandb"):
        folder.mkdir()
        (folder / "settings").write_text(planted)
    script = (
        "import sys, json, wandb\nfrom pathlib import Path\n"
        "from tunebook.workflows.report_wandb import WandbLogger\n"
        "path = Path(sys.argv[1])\n"
        "found = WandbLogger(path, 'a', path / 'wandb.json', {})._run._settings\n"
        "print(json.dumps([found.base_url, found.entity, found.project, found.mode]))\n"
    )
    # What the environment says counts; the folder is that which a reporter works in.
    kept = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")}
    empty = book.parent / "empty"
    empty.mkdir()
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, str(run.path)],
        cwd=empty,
        env={**kept, "HOME": str(home), "WANDB_MODE": "offline"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    url, entity, project, mode = json.loads(done.stdout.splitlines()[-1])
    assert "127.0.0.1" not in url
    assert (entity, project, mode) == ("of-the-user", "tunebook", "offline")


# --- all of it, with a run that was trained ------------------------------------------------------

TRAINED = (
    "runs/a", "runs/a/checkpoints", "runs/a/checkpoints/step-4", "runs/a/best", "runs/a/final",
    "runs/a/events", "runs/a/evaluations", "runs/a/tensorboard", "runs/a/train.log",
    "runs/a/report-tensorboard.log", "runs/a/.lock", "runs/a/resolved.yaml", "runs/a/run.yaml",
    "runs/a/seal.json", "runs/a/plan.json", "runs/a/data.json", "runs/a/notebook.md",
    "runs/a/curve.svg", "runs/b", "runs/b/train.log", "runs/b/final", "notebook.md", "releases",
    ".tunebook", ".tunebook/cache", ".tunebook/index.db", ".tunebook/pages.lock",
    ".tunebook/pages.json", ".tunebook/weights.json",
)  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    book = create_book(tmp_path_factory.mktemp("trained") / "book")
    changes = {"train": {"max_steps": 4}, "evaluate": {"every": 2}, "report_to": ["tensorboard"]}
    file = write_run(book, "a", tiny_model, **changes)
    (book / "b.yaml").write_text(file.read_text().replace('"a"', '"b"'))
    for command in (["train", file], ["evaluate", "a"]):
        done = tunebook(book, *command)
        assert done.returncode == 0, done.stderr
    return book


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("place", TRAINED)
def test_no_verb_changes_what_a_link_in_a_trained_book_leads_to(
    tmp_path: Path, outside: Path, trained: Path, place: str
) -> None:
    book = tmp_path / "book"
    shutil.copytree(trained, book, symlinks=True)
    path = book / place
    is_folder = path.is_dir() or (not path.suffix and not path.name.startswith("."))
    if path.exists():  # what was there is still to be found, elsewhere
        shutil.move(path.resolve() if path.is_symlink() else path, outside / "moved")
        path.unlink(missing_ok=True)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
    there = outside / ("folder" if is_folder else "file")
    path.symlink_to(outside / "moved" if (outside / "moved").exists() else there)
    before = contents(outside)
    verbs: list[list[str]] = [
        ["note", "a", "x"], ["notebook", "build"], ["evaluate", "a"], ["train", "b.yaml"],
        ["resume", "a", "--fork", "c", "train.max_steps=6"], ["release", "a", "releases/a"],
        ["clean"],
    ]  # fmt: skip
    for verb in verbs:
        done = tunebook(book, *verb)
        assert contents(outside) == before, verb
        assert "Traceback" not in done.stderr, verb
        assert "bug in tunebook" not in done.stderr, verb
