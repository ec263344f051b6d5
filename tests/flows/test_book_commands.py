from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import pytest
from filelock import FileLock

from made_runs import make_run
from tunebook.book.checkpoints import mark_best, writing_checkpoint, writing_folder
from tunebook.book.liveness import acquire_run
from tunebook.book.places import RunFolder
from tunebook.cli.main import main

SOURCE = Path(__file__).resolve().parents[2] / "src"


@pytest.fixture
def here(book: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(book)
    return book


def run_out(capsys: pytest.CaptureFixture[str], *argv: str, code: int = 0) -> str:
    assert main(list(argv)) == code
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return err if code else out


def test_a_book_is_made_and_not_made_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "no book here" in run_out(capsys, "runs", code=2)
    run_out(capsys, "init", "b")
    assert "already is a book" in run_out(capsys, "init", "b", code=2)
    assert sorted(p.name for p in (tmp_path / "b").iterdir()) == [
        ".tunebook",
        "notebook.md",
        "runs",
        "tunebook.yaml",
    ]
    monkeypatch.chdir(tmp_path / "b" / "runs")
    assert json.loads(run_out(capsys, "runs", "--json")) == []


def test_a_new_run_states_what_changes(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_out(capsys, "new", "first")
    text = (here / "runs" / "first" / "run.yaml").read_text()
    assert "name: first" in text
    assert "predict: []" in text
    run_out(capsys, "new", "second", "--from", "first", "method=lora", "lora.rank=8")
    text = (here / "runs" / "second" / "run.yaml").read_text()
    assert "extends: first" in text
    assert "rank: 8" in text
    assert "val_loss < first.val_loss" in text
    assert "is taken" in run_out(capsys, "new", "second", code=2)
    assert "did you mean `first`" in run_out(capsys, "new", "x", "--from", "fist", code=2)
    wrong = run_out(capsys, "new", "x", "--from", "first", "train.learning_rat=1", code=2)
    assert "train.learning_rate" in wrong
    assert not (here / "runs" / "x").exists()
    rows = json.loads(run_out(capsys, "runs", "--json"))
    assert [(row["name"], row["state"]) for row in rows] == [("first", "new"), ("second", "new")]


def test_a_run_file_elsewhere_is_extended_by_its_path(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.yaml").write_text("name: mine\nmodel: tunebook/tiny\ndata: [{path: a.txt}]\n")
    run_out(capsys, "new", "a", "--from", str(tmp_path / "mine.yaml"), "data.0.weight=2")
    text = (here / "runs" / "a" / "run.yaml").read_text()
    assert "extends: ../../../mine.yaml" in text
    assert "weight: 2" in text
    assert str(tmp_path / "a.txt") in text
    assert "no run file" in run_out(capsys, "new", "b", "--from", "no.yaml", code=2)


def test_runs_are_filtered_sorted_and_shaped(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(here, "a", loss=2.0)
    make_run(here, "b", loss=1.0, method="lora", rank=8)
    make_run(here, "c", loss=float("nan"), method="lora")

    def names(*argv: str) -> list[str]:
        return [row["name"] for row in json.loads(run_out(capsys, "runs", "--json", *argv))]

    assert names("--filter", "method=lora") == ["b", "c"]
    assert names("--filter", "method = lora", "--filter", "lora.rank<=8") == ["b"]
    assert names("--filter", "val_loss>=1.5") == ["a"]
    assert names("--filter", "method!=lora") == ["a"]
    assert names("--sort", "val_loss") == ["b", "a", "c"]
    assert names("--sort", "-val_loss") == ["a", "b", "c"]
    assert run_out(capsys, "runs", "--columns", "name,lora.rank", "--format", "csv") == (
        "name,lora.rank\na,16\nb,8\nc,16\n"
    )
    assert run_out(capsys, "runs", "--format", "md").startswith("| name | state")
    assert "NaN" in run_out(capsys, "runs")
    assert "did you mean `method`" in run_out(capsys, "runs", "--filter", "metod=x", code=2)
    assert "cannot read the filter" in run_out(capsys, "runs", "--filter", "lora", code=2)
    assert main(["runs", "--filter", "stage=none"]) == 0
    assert "none of the 3 runs matches" in capsys.readouterr().err
    assert "no run has a column" in run_out(capsys, "runs", "--sort", "zzz", code=2)


def test_one_run_is_shown_and_two_are_compared(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(here, "a", predict=("val_loss < 1",))
    make_run(here, "b", extends="a", rank=8, examples_hash="h2")
    text = run_out(capsys, "show", "a")
    assert "failed: val_loss < 1 (val_loss 2.000)" in text
    assert "120 rows in, 8 dropped, 8 empty answer, 112 out" in text
    shown = json.loads(run_out(capsys, "show", "a", "--json"))
    assert shown["predictions"][0]["held"] is False
    assert shown["seal_intact"] is True
    assert "did you mean" in run_out(capsys, "show", "aa", code=2)
    text = run_out(capsys, "diff", "a", "b")
    assert "lora.rank" in text
    assert "learning_rate" not in text
    assert "different examples" in text
    found = json.loads(run_out(capsys, "diff", "a", "b", "--json"))
    assert found["settings"] == {"lora.rank": [16, 8]}


def test_a_new_run_is_compared_with_what_it_inherits(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_out(capsys, "new", "a")
    run_out(capsys, "new", "b", "--from", "a", "train.learning_rate=1e-4")
    found = json.loads(run_out(capsys, "diff", "a", "b", "--json"))
    assert found["settings"] == {"train.learning_rate": [5e-05, 1e-4]}


def test_reindexing_changes_no_byte(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(here, "a", predict=("val_loss < b.val_loss",))
    make_run(here, "b")
    before = run_out(capsys, "runs", "--json")
    (here / ".tunebook" / "index.db").unlink()
    assert run_out(capsys, "reindex") == "2 runs indexed\n"
    assert run_out(capsys, "runs", "--json") == before


def test_a_note_is_dated_tagged_and_survives_a_build(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(here, "a")
    make_run(here, "b")
    assert "no run `z`" in run_out(capsys, "note", "a", "z", "text", code=2)
    assert not (here / "runs" / "a" / "notebook.md").exists()
    run_out(capsys, "note", "a", "b", "spikes look like a LoRA thing", "--tag", "spike")
    run_out(capsys, "note", "a", "again")
    line = f"- {date.today():%Y-%m-%d}: spikes look like a LoRA thing #spike\n"
    run_out(capsys, "notebook", "build")
    page = (here / "runs" / "a" / "notebook.md").read_text()
    assert line in page
    assert page.endswith(": again\n")
    rows = json.loads(run_out(capsys, "runs", "--json", "--filter", "tags=spike"))
    assert [row["name"] for row in rows] == ["a", "b"]
    assert "the note is empty" in run_out(capsys, "note", "a", " ", code=2)
    assert "at least one run" in run_out(capsys, "note", "a", code=2)


def test_building_twice_writes_nothing_the_second_time(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(here, "a")
    assert len(run_out(capsys, "notebook", "build").splitlines()) == 2
    page = here / "runs" / "a" / "notebook.md"
    with page.open("ab") as file:
        file.write(b"my own words \xff\r\n")
    before = page.read_bytes()
    assert run_out(capsys, "notebook", "build") == ""
    assert page.read_bytes() == before


def test_a_damaged_run_keeps_its_page_and_the_others_are_written(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(here, "a")
    make_run(here, "b")
    next(run.events.iterdir()).write_bytes(b"rubbish\n")
    assert main(["notebook", "build"]) == 0
    out, err = capsys.readouterr()
    assert "the page of a stays as it was" in err
    assert "runs/b/notebook.md" in out
    assert "is not an event" in run_out(capsys, "show", "a", code=2)


def test_stop_asks_a_running_run_only(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(here, "a", state=None)
    assert "is paused, not running" in run_out(capsys, "stop", "a", code=2)
    with acquire_run(run):
        run_out(capsys, "stop", "a")
    assert run.stop_requested.exists()


def fill(run: RunFolder, *steps: int) -> None:
    for step in steps:
        with writing_checkpoint(run, step) as path:
            (path / "w").write_bytes(b"x" * 100)


def left(run: RunFolder) -> list[str]:
    return sorted(path.name for path in run.checkpoints.iterdir())


def test_clean_takes_what_is_superseded_and_nothing_else(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done, paused = make_run(here, "done"), make_run(here, "paused", state="paused")
    running = make_run(here, "running", state=None)
    make_run(here, "child", model="run:done/step-2")
    for run in (done, paused, running):
        fill(run, 1, 2, 3)
    mark_best(done, 1)
    with writing_folder(done.final) as path:
        (path / "w").write_text("final")
    (paused.checkpoints / ".tmp-4-4194305").mkdir()
    (here / ".tunebook" / "cache" / ("ab" * 32)).mkdir(parents=True)
    with acquire_run(running):
        dry = run_out(capsys, "clean", "--dry-run", "--json")
        assert len(left(paused)) == 4
        removed = [Path(r["path"]).name for r in json.loads(dry)]
        assert sorted(removed) == [".tmp-4-4194305", "step-1", "step-2", "step-3"]
        run_out(capsys, "clean")
    assert left(done) == ["step-1", "step-2"]
    assert left(paused) == ["step-3"]
    assert left(running) == ["step-1", "step-2", "step-3"]
    assert (done.final / "w").read_text() == "final"
    assert (here / ".tunebook" / "cache" / ("ab" * 32)).is_dir()
    assert "unused token cache" in run_out(capsys, "clean")
    assert not (here / ".tunebook" / "cache" / ("ab" * 32)).exists()


def test_a_run_whose_newest_checkpoint_is_damaged_keeps_the_good_one(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(here, "a", state="paused")
    fill(run, 1, 2, 3)
    (run.checkpoints / "step-3" / "w").write_bytes(b"y")
    run_out(capsys, "clean")
    assert left(run) == ["step-2"]


def test_two_hundred_runs_are_listed_at_once_and_without_torch(book: Path) -> None:
    for number in range(200):
        make_run(book, f"run_{number}", steps=2, predict=("val_loss < run_0.val_loss",))
    env = {**os.environ, "PYTHONPATH": str(SOURCE)}

    def listed() -> tuple[float, str]:
        started = time.perf_counter()
        command = [sys.executable, "-X", "importtime", "-m", "tunebook", "runs", "--json"]
        done = subprocess.run(
            command, cwd=book, env=env, capture_output=True, text=True, check=True
        )
        assert len(json.loads(done.stdout)) == 200
        return time.perf_counter() - started, done.stderr

    listed()
    seconds, imports = min(listed() for _ in range(5))
    modules = {line.rpartition("|")[2].strip() for line in imports.splitlines()}
    slow = {"torch", "transformers", "peft", "numpy", "pydantic", "ruamel.yaml", "rich", "psutil"}
    assert not modules & slow
    # Half a second is the promise on an idle machine; a test shares its machine with others.
    assert seconds < 2.0


def test_clean_keeps_the_tokens_of_a_run_that_can_go_on_and_those_being_made(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(here, "done")
    run = make_run(here, "paused", state="paused")
    cache = here / ".tunebook" / "cache"
    done, paused, made, left_over = "ab" * 32, "cd" * 32, ".tmp-" + "ef" * 8, ".tmp-" + "01" * 8
    run.data_json.write_text(run.data_json.read_text().replace("tokens-of-paused", paused))
    for name in (done, paused, made, left_over):
        (cache / name).mkdir(parents=True)
        (cache / name / "lock").touch()
    with FileLock(cache / made / "lock"):
        run_out(capsys, "clean")
    assert sorted(p.name for p in cache.iterdir()) == [made, paused]
