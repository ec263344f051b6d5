from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from made_runs import make_run, make_step, make_validation
from tunebook.book.events import Events
from tunebook.pages.figures import draw_figure, drawn_digest
from tunebook.pages.run_curves import RunCurves, run_curves
from tunebook.records import Diagnosis
from tunebook.watch.non_finite import find_non_finite

SPIKE_AT, STEPS = 1234, 20_000


def curves(steps: int = 40, **changes: object) -> RunCurves:
    taken = [make_step(n, 3 - n / steps) for n in range(1, steps + 1)]
    found = run_curves("a", Events(steps=taken, validations=[make_validation(steps, 2.1)]))
    return replace(found, **changes)  # type: ignore[arg-type]


def long_run(spike: float) -> RunCurves:
    losses = [2 + 0.1 * math.sin(n) for n in range(STEPS)]
    losses[SPIKE_AT] = spike
    numbers = list(range(1, STEPS + 1))
    return RunCurves("a", numbers, losses, losses, losses, [(STEPS, 2.0, (1.9, 2.1))], [])


def top_of_training(svg: str) -> float:
    paths = re.findall(r'<path d="([^"]+)"[^>]*stroke: #1f6fb4', svg)
    longest = max(paths, key=len)
    return min(float(y) for y in re.findall(r"[ML] \S+ (\S+)", longest))


def test_a_spike_of_one_step_in_20000_reaches_the_top_of_the_figure_in_60_kilobytes() -> None:
    svg = draw_figure([long_run(spike=9.0)], "svg")
    tops = [float(y) for y in re.findall(r"[ML] \S+ (\S+)", svg.decode())]
    assert top_of_training(svg.decode()) < 0.3 * max(tops)
    assert len(svg) < 60_000
    plain = draw_figure([long_run(spike=2.0)], "svg").decode()
    assert plain.count("L ") == pytest.approx(svg.decode().count("L "), rel=0.05)


@pytest.mark.parametrize("form", ["svg", "png", "pdf"])
def test_the_same_run_gives_the_same_bytes(form: str) -> None:
    assert draw_figure([curves()], form) == draw_figure([curves()], form)


def test_an_svg_says_of_which_numbers_it_was_drawn() -> None:
    drawn = drawn_digest(draw_figure([curves()], "svg"))
    assert drawn == curves().digest()
    assert drawn != curves(flags=[("spike", 3, 3)]).digest()
    assert drawn_digest(b"<svg>somebody's own</svg>") is None


def test_verdicts_stand_on_the_axis_by_name_and_what_is_not_finite_as_crosses() -> None:
    taken = [make_step(10), make_step(11, math.nan)]
    verdict = find_non_finite(taken)
    assert verdict is not None
    found = Diagnosis(11, (verdict,), ("non_finite",), {}, final=True)
    svg = draw_figure([run_curves("a", Events(steps=taken, diagnosis=found))], "svg").decode()
    assert ">non_finite</text>" in svg
    assert ">not finite</text>" in svg
    assert "non_finite at step 11" in svg.partition(">")[0]


def test_more_verdicts_than_there_is_room_for_are_counted() -> None:
    many = [(f"kind_{n}", 20, 20) for n in range(7)]
    assert ">kind_2 and 4 more</text>" in draw_figure([curves(flags=many)], "svg").decode()


def test_a_run_without_one_finite_loss_has_a_figure_that_says_so() -> None:
    nothing = curves(4, losses=[math.nan] * 4, held_out=[])
    assert "not one finite value" in draw_figure([nothing], "svg").decode()


def test_losses_that_span_decades_are_drawn_on_a_logarithmic_axis() -> None:
    assert "loss (logarithmic)" in draw_figure([curves(2, losses=[2.0, 900.0])], "svg").decode()


def test_several_runs_lie_over_each_other_by_name() -> None:
    runs = [curves(name="a"), curves(name="b-2")]
    svg = draw_figure(runs, "svg").decode()
    assert ">b-2</text>" in svg
    assert ">learning rate</text>" not in svg


def test_ids_of_figures_on_one_page_differ() -> None:
    ids = [
        id_
        for name in ("a", "b")
        for id_ in re.findall(
            r' id="([^"]+)"', draw_figure([curves(name=name)], "svg", standalone=False).decode()
        )
    ]
    assert ids
    assert len(ids) == len(set(ids))


def test_a_figure_turns_dark_by_itself_only_where_it_stands_alone() -> None:
    assert b"prefers-color-scheme: dark" in draw_figure([curves()], "svg")
    assert b"<style" not in draw_figure([curves()], "svg", standalone=False)


def test_reading_a_book_loads_no_matplotlib(book: Path) -> None:
    make_run(book, "a")
    code = (
        "import sys; from tunebook.cli.main import main\n"
        "assert main(['runs']) == main(['show', 'a']) == 0\n"
        "found = {'matplotlib', 'numpy', 'torch'} & set(sys.modules)\n"
        "sys.exit(f'imported: {found}' if found else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=book, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.timeout(60)
def test_a_matplotlibrc_of_the_working_folder_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "matplotlibrc")
    draw = (
        "from tunebook.pages.figures import draw_figure; from tunebook.pages.run_curves import *;"
        "draw_figure([RunCurves('a', [1, 2], [2.0, 1.0], [2.0, 1.0], [2.0, 1.0], [], [])], 'svg')"
    )
    subprocess.run([sys.executable, "-P", "-c", draw], cwd=tmp_path, timeout=30, check=True)
