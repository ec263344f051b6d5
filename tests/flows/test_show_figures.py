from __future__ import annotations

import csv
import json
import os
import pty
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from made_runs import make_run
from tunebook.cli.main import main


@pytest.fixture
def here(book: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(book)
    make_run(book, "a", steps=30)
    make_run(book, "b", steps=30)
    return book


def test_a_plot_shows_loss_rate_and_norm_in_96_columns_where_there_is_no_terminal(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", "a", "--plot"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) == 96
    for word in ("⣀ train", "○ validation", "⣀ learning rate", "⣀ gradient norm"):
        assert word in text


@pytest.mark.parametrize("columns", [60, 120])
def test_a_plot_is_as_wide_as_the_terminal(here: Path, columns: int) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (40, columns))
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
    command = [sys.executable, "-m", "tunebook", "show", "a", "--plot"]
    process = subprocess.Popen(command, stdout=theirs, env=environment)
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 65536):
            shown += part
    except OSError:
        pass  # what the end of a terminal reads as on Linux
    finally:
        os.close(ours)
    assert process.wait() == 0
    assert max(len(line) for line in shown.decode().splitlines()) == columns


def test_a_figure_is_what_its_name_says_and_replaces_one_of_that_name(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, head in (("x.svg", b"<svg "), ("x.png", b"\x89PNG"), ("x.PDF", b"%PDF")):
        (here / name).write_bytes(b"of old")
        assert main(["show", "a", "b", "--figure", name]) == 0
        assert capsys.readouterr().out == f"{name}\n"
        assert (here / name).read_bytes().startswith(head)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["a", "--figure", "x.jpg"], "cannot be written as `x.jpg`; end its name in .svg, .png"),
        (["a", "--figure", "runs.svg/"], "runs.svg is a folder; name a file in it"),
        (["a", "--figure", "no/x.svg"], "cannot write no/x.svg: No such file or directory"),
        (["a", "b"], "show one run at a time, not 2"),
        (["a", "--plot", "--json"], "one at a time"),
        (["new", "--plot"], "there is nothing to draw of new yet; train it first"),
    ],
)
def test_what_cannot_be_drawn_is_a_sentence(
    here: Path, capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    (here / "runs.svg").mkdir()
    new = here / "runs" / "new"
    new.mkdir()
    (new / "run.yaml").write_text("name: new\nmodel: m\n")
    assert main(["show", *words]) in (1, 2)
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1


def test_the_curves_of_a_run_are_its_events_in_csv(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", "a", "--curves", "-"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [int(row["step"]) for row in rows] == list(range(31))
    assert main(["show", "a", "--json"]) == 0
    held_out = {v["step"]: v for v in json.loads(capsys.readouterr().out)["validations"]}
    found = {int(r["step"]): float(r["val_loss"]) for r in rows if r["val_loss"]}
    assert found == {step: v["loss"] for step, v in held_out.items()}
    assert [float(rows[30]["val_low"]), float(rows[30]["val_high"])] == held_out[30]["interval"]
    assert rows[0]["loss"] == ""
    assert (rows[30]["loss"], rows[30]["tokens"], rows[30]["clipped"]) == ("2.0", "20", "1")
    assert main(["show", "a", "--curves", "a.csv"]) == 0
    assert len((here / "a.csv").read_text().splitlines()) == 32
