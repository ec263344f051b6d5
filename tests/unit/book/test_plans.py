from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from made_runs import make_plan, make_run
from tunebook.book.places import list_runs
from tunebook.book.plans import compare_plan, planned_runs, sum_up_errors
from tunebook.cli.main import main

SOURCE = Path(__file__).resolve().parents[3] / "src"


def test_the_peak_is_the_largest_of_all_that_was_planned() -> None:
    figures = compare_plan(
        {
            "memory": {
                "train_peak_bytes": 5,
                "longest_batch_bytes": 9,
                "evaluation_peak_bytes": 11,
            },
            "measured": {"train_peak_bytes": 10},
        }
    )
    assert figures["peak_bytes"].error == pytest.approx(0.1)
    assert figures["seconds"].error is None


def test_the_worst_error_keeps_its_sign_and_the_median_has_none(book: Path) -> None:
    for name, planned in (("a", 110), ("b", 50), ("c", 101)):
        make_plan(make_run(book, name), seconds=planned, measured={"seconds": 100})
    make_plan(make_run(book, "still-running"), seconds=7, measured=None)
    make_run(book, "of-old")
    runs = list(planned_runs(list_runs(book)))
    assert [run.name for run in runs] == ["a", "b", "c"]
    off = sum_up_errors(runs)["seconds"]
    assert (off.n_runs, off.worst_run) == (3, "b")
    assert (off.median, off.worst) == (pytest.approx(0.1), pytest.approx(-0.5))


def without_torch(words: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command; the exit code is 99 when it imported torch."""
    code = (
        "import sys; from tunebook.cli.main import main; code = main(sys.argv[1:]);"
        "sys.exit(99 if 'torch' in sys.modules else code)"
    )
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )


def test_a_wrong_run_file_is_refused_before_torch_takes_its_seconds(
    book: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(book)
    (book / "run.yaml").write_text("name: a\nmodel: tunebook/tiny\ndata: [{path: x}]\n")
    for words in (["run.yaml", "--device", "nonsense"], ["run.yaml", "trian.epochs=2"], ["gone"]):
        done = without_torch(["plan", *words])
        assert done.returncode == 2, done.stderr


def test_the_history_needs_no_run_file_and_no_torch(
    book: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(book)
    assert main(["plan", "--history"]) == 0
    assert "no run here has a plan" in capsys.readouterr().err
    make_plan(make_run(book, "a"))
    assert main(["plan", "--history", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["runs"][0]["peak_bytes"] == {
        "planned": 1_100_000,
        "measured": 1_000_000,
        "error": pytest.approx(0.1),
    }
    off = found["errors"]["seconds"]
    assert (off["n"], off["run"]) == (1, "a")
    assert (off["median"], off["worst"]) == (pytest.approx(0.1), pytest.approx(-0.1))
    make_plan(make_run(book, "b"))
    assert main(["plan", "b", "--history", "--json"]) == 0
    assert [run["name"] for run in json.loads(capsys.readouterr().out)["runs"]] == ["b"]
    assert main(["plan", "c", "--history"]) == 2
    assert "has no run `c`" in capsys.readouterr().err
    shutil.rmtree(book / "runs" / "b")
    done = without_torch(["plan", "--history"])
    assert done.returncode == 0, done.stderr
    assert "median error 10 % of 1 run\nworst error +10.0 % in a\n" in done.stdout
    assert max(map(len, done.stdout.splitlines())) < 80
    assert main(["show", "a"]) == 0
    assert "time: 9.0 s, measured 10.0 s (-10.0 %)" in capsys.readouterr().out


def test_a_plan_without_a_run_file_is_a_mistake_in_one_sentence(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["plan"]) == 2
    assert "name a run file or a run" in capsys.readouterr().err
