"""Notebook 002: its tables become runs, and what its author concluded by eye is answered."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tunebook.book.places import RunFolder
from tunebook.book.run_file import imported_from
from tunebook.book.summary import summarize
from tunebook.cli.main import main
from tunebook.records import RunSummary

pytestmark = pytest.mark.shared_data


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Path:
    """A fresh book, made and filled by one command."""
    (file,) = (shared_data.parent / "notebooks").glob("002_*.txt")
    book = tmp_path_factory.mktemp("alpaca") / "book"
    assert main(["import", str(file), "--book", str(book)]) == 0
    return book


def run_of(book: Path, name: str) -> RunSummary:
    return summarize(RunFolder(book, name))


def against(
    book: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    *arguments: str,
) -> dict[str, object]:
    monkeypatch.chdir(book)
    capsys.readouterr()
    assert main(["verdicts", *arguments, "--json"]) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def test_every_row_is_a_run_with_the_settings_and_results_of_its_cells(notebook: Path) -> None:
    names = [f"run_{n}" for n in (*range(1, 7), *range(10, 20))]
    assert sorted(path.name for path in (notebook / "runs").iterdir()) == sorted(names)
    run = run_of(notebook, "run_15")
    assert (run.state, run.model, run.method, run.device) == (
        "finished", "gpt2-medium", "lora", "T4",
    )  # fmt: skip
    assert (run.val_loss, run.perplexity, run.judge) == (1.844, 6.319, 14.80)
    settings = {key: run.config[key] for key in run.config if key.startswith(("train.", "lora."))}
    assert settings == {
        "train.effective_batch_size": 4,  # bold in the table
        "train.epochs": 1.0,
        "train.optimizer": "adamw",
        "train.learning_rate": 5e-5,
        "train.min_lr": 1e-5,
        "train.warmup_fraction": 0.2,
        "train.weight_decay": 0.1,
        "lora.rank": 64,
        "lora.alpha": 64.0,
    }
    no_schedule = RunFolder(notebook, "run_2")
    assert "train.min_lr" not in run_of(notebook, "run_2").config
    assert imported_from(no_schedule)["not_given"] == ["train.min_lr", "train.warmup_fraction"]
    assert imported_from(RunFolder(notebook, "run_6"))["other"] == {
        "remark": "(wo/ gradient clipping)"
    }
    assert run_of(notebook, "run_18").judge is None
    assert run_of(notebook, "run_1").seconds == pytest.approx(12.76 * 60)


def test_the_authors_words_stay_the_authors(notebook: Path) -> None:
    page = (notebook / "runs" / "run_2" / "notebook.md").read_text()
    below = page.partition("<!-- tunebook:end")[2]
    assert "- Overfitting observed after 0.5 epoch" in below
    assert "overfitting" not in run_of(notebook, "run_2").verdicts
    index = (notebook / "notebook.md").read_text()
    assert "* Evals are hard." in index
    assert "massive spike" in (notebook / "runs" / "run_15" / "notebook.md").read_text()


def test_run_18_diverged_and_run_15_is_the_worst_but_for_it(
    notebook: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    diverged = [p.name for p in (notebook / "runs").iterdir()
                if "divergence" in run_of(notebook, p.name).verdicts]  # fmt: skip
    assert diverged == ["run_18"]
    assert "**divergence" in (notebook / "runs" / "run_18" / "notebook.md").read_text()
    monkeypatch.chdir(notebook)
    capsys.readouterr()
    assert main(["verdicts", "run_18"]) == 0
    said = capsys.readouterr().out
    assert "divergence" in said
    assert "3.974" in said
    assert "coarse" in said
    assert main(["verdicts", "run_15"]) == 0
    said = capsys.readouterr().out
    assert "1.844 is the worst of 11 runs of gpt2-medium but for run_18" in said


@pytest.mark.parametrize(
    ("run", "other", "difference", "least", "most"),
    [
        ("run_15", "base", -6.34, 600, 650),
        ("run_13", "base", 0.08, 2000, 2600),
        ("run_10", "run_14", 3.38, 2100, 2300),
    ],
)
def test_small_gaps_of_the_judge_cannot_be_told(
    notebook: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    run: str,
    other: str,
    difference: float,
    least: int,
    most: int,
) -> None:
    found = against(notebook, capsys, monkeypatch, run, "--against", other)
    judge = found["compared"]["judge"]  # type: ignore[index]
    assert judge["comparison"]["difference"] == pytest.approx(difference)
    assert judge["comparison"]["verdict"] == "cannot tell"
    assert least < judge["comparison"]["n_needed"] < most
    assert judge["assumed"] == "assumed: 100 questions, SD 40 per question, unpaired"
    assert "noise_only" in [v["kind"] for v in found["verdicts"]]  # type: ignore[attr-defined]


def test_a_gap_of_19_points_is_different_and_two_changes_are_confounded(
    notebook: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    models = against(notebook, capsys, monkeypatch, "run_4", "--against", "run_5")
    assert models["compared"]["judge"]["comparison"]["verdict"] == "different"  # type: ignore[index]
    assert models["verdicts"] == []
    schedule = against(notebook, capsys, monkeypatch, "run_4", "--against", "run_2")
    (verdict,) = schedule["verdicts"]  # type: ignore[misc]
    assert verdict["kind"] == "confounded"
    assert list(verdict["evidence"]) == ["train.min_lr", "train.warmup_fraction"]
    # With a wider spread, the same gap would not be enough.
    wide = ("--judge-n", "25", "--judge-sd", "45")
    unsure = against(notebook, capsys, monkeypatch, "run_4", "--against", "run_5", *wide)
    assert unsure["compared"]["judge"]["comparison"]["verdict"] == "cannot tell"  # type: ignore[index]
