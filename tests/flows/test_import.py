"""`tunebook import`: logs and tables of other tools become runs that the book's commands show."""

from __future__ import annotations

import csv
import json
import math
import sqlite3
from pathlib import Path

import pytest

from tunebook.book.events import Events, read_events
from tunebook.book.places import RunFolder
from tunebook.book.summary import summarize
from tunebook.cli.main import main
from tunebook.workflows import import_runs


def curve(steps: int = 200) -> list[dict[str, float]]:
    """A healthy curve that wiggles as real ones do."""
    return [
        {
            "step": step,
            "loss": 1.4 + 1.6 * math.exp(-step / 60) + 0.05 * math.sin(step * 2.4),
            "learning_rate": 5e-5 * (1 - step / (steps + 1)),
            "grad_norm": 1.0 + 0.1 * math.sin(step * 1.7),
        }
        for step in range(1, steps + 1)
    ]


def trainer_state(path: Path, rows: list[dict[str, float]]) -> Path:
    """What the Hugging Face Trainer writes: its rows, validations between, a row of the whole."""
    history: list[dict[str, object]] = []
    for row in rows:
        history.append({"epoch": row["step"] / 200, **row})
        if row["step"] % 50 == 0:
            history.append({"step": row["step"], "eval_loss": row["loss"] + 0.1, "epoch": 0.5})
    history.append({"step": rows[-1]["step"], "train_loss": 9.0, "train_runtime": 321.5})
    state = {
        "log_history": history,
        "max_steps": 200,
        "num_train_epochs": 1,
        "best_global_step": 200,
        "train_batch_size": 4,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(state))
    return path


@pytest.fixture
def here(book: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(book)
    return book


def events_of(book: Path, name: str) -> Events:
    return read_events(RunFolder(book, name))


def test_a_trainer_state_becomes_a_run_with_its_unknowns_unknown(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = trainer_state(tmp_path / "alpaca" / "checkpoint-200" / "trainer_state.json", curve())
    assert main(["import", str(file)]) == 0
    assert "no_fault_found" in capsys.readouterr().out
    events = events_of(here, "alpaca")
    assert len(events.steps) == 200
    assert [v.step for v in events.validations] == [50, 100, 150, 200]
    step = events.steps[9]
    assert (step.step, step.epoch) == (10, 0.05)
    unknown = (step.loss_sum, step.tokens, step.clipped, step.applied, step.padding_target_tokens)
    assert unknown == (None,) * 5
    summary = summarize(RunFolder(here, "alpaca"))
    assert (summary.state, summary.steps, summary.best_step) == ("finished", 200, 200)
    assert (summary.seconds, summary.started, summary.base_val_loss) == (321.5, None, None)
    # The last row's train_loss is a mean over the whole run, and no step's.
    assert summary.train_loss == pytest.approx(1.46, abs=0.06)
    for command in (
        ["runs"],
        ["show", "alpaca"],
        ["notebook", "build"],
        ["diff", "alpaca", "alpaca"],
    ):
        assert main(command) == 0
    page = (here / "runs" / "alpaca" / "notebook.md").read_text()
    assert "Imported from" in page
    assert "## Again" not in page


def test_imported_history_is_not_trained_resumed_or_evaluated(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(["import", str(trainer_state(tmp_path / "old" / "trainer_state.json", curve()))]) == 0
    )
    before = sorted(p.name for p in (here / "runs" / "old").rglob("*"))
    for command in (
        ["resume", "old"],
        ["train", "old"],
        ["evaluate", "old"],
        ["release", "old", "out"],
    ):
        capsys.readouterr()
        assert main(command) == 2
        said = capsys.readouterr().err
        assert "run old was imported from" in said, command
        assert "`tunebook new NAME --from old" in said
    for command, way_out in (
        (["watch", "old"], "`tunebook show old`"),
        (["compare", "old", "old/best"], "verdicts old --against"),
    ):
        assert main(command) == 2
        assert way_out in capsys.readouterr().err
    assert sorted(p.name for p in (here / "runs" / "old").rglob("*")) == before


def test_a_new_run_takes_over_the_settings_that_are_known(here: Path, tmp_path: Path) -> None:
    table = "| run | model | lr | wd | loss |\n|---|---|---|---|---|\n| a | m | 2e-5 | - | 1.5 |\n"
    (tmp_path / "notes.md").write_text(table)
    (tmp_path / "own.json").write_text('[{"instruction": "a", "output": "b"}]')
    assert main(["import", str(tmp_path / "notes.md")]) == 0
    data = json.dumps([{"path": str(tmp_path / "own.json")}])
    assert main(["new", "b", "--from", "a", f"data={data}", "stage=sft", "method=full"]) == 0
    from tunebook.workflows.train import load_recipe

    recipe = load_recipe("b", (), here).recipe
    assert (recipe.model, recipe.train.learning_rate, recipe.train.weight_decay) == ("m", 2e-5, 0.0)


def test_a_taken_name_is_refused_with_the_way_out(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = trainer_state(tmp_path / "old" / "trainer_state.json", curve())
    assert main(["import", str(file)]) == 0
    assert main(["import", str(file)]) == 2
    assert "--name OTHER" in capsys.readouterr().err
    assert main(["import", str(file), "--name", "again"]) == 0
    assert len(events_of(here, "again").steps) == 200


def test_a_failed_import_takes_back_its_own_runs_and_no_others(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "notes.md"
    file.write_text("| run | loss |\n|---|---|\n| x | 2 |\n| 走る | 3 |\n", encoding="utf-8")
    other = here / "runs" / "old-2" / "recipe.yaml"

    def meanwhile(path: Path) -> str:
        other.parent.mkdir(parents=True)
        other.touch()
        return "0" * 64

    monkeypatch.setattr(import_runs, "_digest", meanwhile)
    assert main(["import", str(file), "--name", "old"]) == 2
    assert "the book has a run old-2 already" in capsys.readouterr().err
    assert other.exists()
    assert not (here / "runs" / "old-x").exists()


def test_every_open_format_gives_the_same_curve(here: Path, tmp_path: Path) -> None:
    rows = curve(40)
    factory = tmp_path / "factory" / "trainer_log.jsonl"
    factory.parent.mkdir()
    factory.write_text(
        "\n".join(
            json.dumps(
                {
                    "current_steps": row["step"],
                    "total_steps": 40,
                    "loss": row["loss"],
                    "lr": row["learning_rate"],
                    "elapsed_time": "0:00:10",
                }
            )
            for row in rows
        )
    )
    history = tmp_path / "wandb-history.jsonl"
    history.write_text(
        "\n".join(
            json.dumps({"_step": i, "train/global_step": r["step"], "train/loss": r["loss"]})
            for i, r in enumerate(rows)
        )
    )
    table = tmp_path / "exported.csv"
    with table.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["Step", "mild-sun-1 - train/loss", "mild-sun-1 - train/loss__MIN"])
        writer.writerows([row["step"], row["loss"], 0] for row in rows)
    project = tmp_path / "tracked.db"
    with sqlite3.connect(project) as database:
        database.execute(
            "CREATE TABLE metrics (id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT, "
            "timestamp TEXT, run_name TEXT, step INTEGER, metrics TEXT)"
        )
        database.execute("CREATE TABLE configs (id INTEGER, run_name TEXT, config TEXT)")
        database.execute("INSERT INTO configs VALUES (1, 'dry-bird', '{\"learning_rate\": 0.001}')")
        database.executemany(
            "INSERT INTO metrics (run_name, step, metrics) VALUES ('dry-bird', ?, ?)",
            [(row["step"], json.dumps({"train/loss": row["loss"]})) for row in rows],
        )
    database.close()
    for arguments in (
        [str(factory)],
        [str(history), "--name", "wandb"],
        [str(table)],
        [str(project)],
    ):
        assert main(["import", *arguments]) == 0
    for name in ("factory", "wandb", "exported", "dry-bird"):
        found = [(s.step, s.loss) for s in events_of(here, name).steps]
        assert found == [(row["step"], row["loss"]) for row in rows], name
    assert events_of(here, "factory").steps[3].learning_rate == rows[3]["learning_rate"]
    assert summarize(RunFolder(here, "dry-bird")).config["train.learning_rate"] == 0.001


def test_event_files_of_tensorboard_are_read(here: Path, tmp_path: Path) -> None:
    writer_of = pytest.importorskip("tensorboard.summary.writer.event_file_writer")
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    writer = writer_of.EventFileWriter(str(tmp_path / "tb"))
    rows = curve(40)
    for row in rows:
        values = [
            Summary.Value(tag=tag, simple_value=row[key])
            for tag, key in (("train/loss", "loss"), ("train/learning_rate", "learning_rate"))
        ]
        writer.add_event(Event(step=int(row["step"]), summary=Summary(value=values)))
    writer.close()
    assert main(["import", str(tmp_path / "tb")]) == 0
    steps = events_of(here, "tb").steps
    assert [s.loss for s in steps] == pytest.approx([row["loss"] for row in rows], rel=1e-6)
    assert steps[4].grad_norm is None


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda step, loss: loss * (4.0 if step == 120 else 1.0), "spike"),
        (lambda step, loss: loss + max(0.0, (step - 130) * 0.05), "divergence"),
    ],
)
def test_what_went_wrong_is_found_on_an_imported_curve(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: object, kind: str
) -> None:
    from tunebook.kinds import FAMILIES

    assert callable(change)
    rows = [{**row, "loss": change(row["step"], row["loss"])} for row in curve()]
    for row in rows:
        del row["learning_rate"], row["grad_norm"]
    assert main(["import", str(trainer_state(tmp_path / "bad" / "trainer_state.json", rows))]) == 0
    found = events_of(here, "bad").verdicts
    assert {v.kind for v in found} & {*FAMILIES.get(kind, ()), kind}, found
    assert summarize(RunFolder(here, "bad")).verdicts


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("trainer_state.json", '{"log_history": [', "cannot be read"),
        ("trainer_state.json", '{"model": 1}', "neither has a log_history"),
        ("log.jsonl", '{"step": 1, "loss": 2}\nstep two\n', "line 2 is no JSON"),
        ("log.csv", "step,loss\n1,2.0\n2,high\n", "row 2: loss is 'high', not a number"),
        ("log.csv", "step,loss\n1,2.0\n2\n", "row 2 has 1 cells"),
        ("log.csv", "time,loss\n1,2.0\n", "--column step=NAME"),
        ("log.csv", "step,loss\n1.5,2.0\n", "a step is a whole number"),
        ("log.csv", "", "it is empty"),
        ("notes.md", "| a | b |\n|---|---|\n| 1 | 2 |\n", "--column name=COLUMN"),
        ("notes.md", "| run | loss |\n|---|---|\n| x | 2 |\n| x | 3 |\n", "second row names"),
        (
            "notes.md",
            "| run | loss |\n|---|---|\n| x | 2 |\n| 走る | 3 |\n",
            "run 2 of the file is called '走る', which has no letter or digit",
        ),
        ("project.db", "SQLite format 3\0 and no more", "no project of Trackio"),
        ("run.wandb", "binary", "export the run's history"),
        ("table.parquet", "PAR1", "parquet is not read"),
    ],
)
def test_what_cannot_be_read_is_one_sentence_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: str, said: str
) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert main(["import", str(tmp_path / name), "--book", str(tmp_path / "fresh")]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "fresh").exists()


def test_a_column_of_another_name_is_read_when_it_is_named(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "own.csv"
    file.write_text("when,nats,extra\n1,2.5,x\n2,2.25,y\n")
    assert main(["import", str(file), "--column", "step=when", "--column", "loss=nats"]) == 0
    assert [s.loss for s in events_of(here, "own").steps] == [2.5, 2.25]
    assert "not read: column extra" in capsys.readouterr().err
    assert main(["import", str(file), "--name", "b", "--column", "loss=gone"]) == 2
