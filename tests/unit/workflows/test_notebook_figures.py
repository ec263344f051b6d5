from __future__ import annotations

import errno
import math
from pathlib import Path

import pytest

from made_runs import make_run, make_step
from tunebook.book.events import EventWriter
from tunebook.workflows import notebook
from tunebook.workflows.notebook import build_notebook


def test_a_page_shows_its_figure_and_the_curve_in_plain_text(book: Path) -> None:
    run = make_run(book, "a")
    build_notebook(book)
    page = run.notebook_md.read_text()
    assert "![Loss of a](curve.svg)\n\n```text curve\n" in page
    assert run.curve_svg.read_text().startswith("<svg ")


def test_a_figure_is_drawn_again_only_when_its_numbers_change(
    book: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    monkeypatch.setattr(notebook, "draw_figure", _counting(drawn))
    runs = [make_run(book, name) for name in "abc"]
    build_notebook(book, drawing_seconds=math.inf)
    assert sorted(drawn) == ["a", "b", "c"]
    build_notebook(book, drawing_seconds=math.inf)
    assert len(drawn) == 3
    with EventWriter(runs[1], 2) as events:
        events.write("step", make_step(11))
    build_notebook(book, drawing_seconds=math.inf)
    assert drawn[3:] == ["b"]


def test_a_figure_that_cannot_be_drawn_is_not_referred_to_and_is_told(
    book: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(book, "a")
    build_notebook(book)
    with EventWriter(run, 2) as events:
        events.write("step", make_step(11))

    def full(*_: object) -> bytes:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(notebook, "draw_figure", full)
    said: list[str] = []
    build_notebook(book, said.append)
    assert not run.curve_svg.exists()
    assert "curve.svg" not in run.notebook_md.read_text()
    assert "step 11" in run.notebook_md.read_text()
    assert len(said) == 1
    assert said[0].startswith("the figure of a was not drawn: ")


def test_the_end_of_a_training_draws_the_newest_run_first_and_not_for_long(
    book: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    drawn: list[str] = []
    monkeypatch.setattr(notebook, "draw_figure", _counting(drawn))
    for age, name in enumerate("abc"):
        for path in make_run(book, name).events.iterdir():
            os.utime(path, (1e9 - age, 1e9 - age))
    ticks = iter(range(100))
    monkeypatch.setattr(notebook.time, "monotonic", lambda: next(ticks))
    build_notebook(book, drawing_seconds=0.5)
    assert drawn == ["a"]


def _counting(drawn: list[str]):  # type: ignore[no-untyped-def]
    def draw(runs, form):  # type: ignore[no-untyped-def]
        drawn.append(runs[0].name)
        return f'<svg data-numbers="{runs[0].digest()}">'.encode()

    return draw
