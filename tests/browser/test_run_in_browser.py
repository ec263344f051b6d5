"""The page of one run in a real browser: its curves, live and from near."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from made_runs import make_run, make_step
from tunebook.book.events import EventWriter
from tunebook.book.places import RunFolder
from tunebook.records import Diagnosis, Verdict

pytestmark = pytest.mark.browser

DRAWN = "() => document.querySelector('[data-curves]')?.curves?.plots.length > 0"
LOSSES = "() => document.querySelector('[data-curves]').curves.plots[0].data.slice(0, 2)"


def long_run(book: Path, spike_at: int, steps: int = 20_000) -> RunFolder:
    run = make_run(book, "run_1", steps=0, state=None)
    with EventWriter(run, 1) as events:
        for step in range(1, steps + 1):
            events.write("step", make_step(step, 17.0 if step == spike_at else 2.0))
        spike = Verdict("bad_batch", spike_at, spike_at + 2, "a batch of noise", "likely", {}, "")
        events.write("verdicts", Diagnosis(steps, (spike,), ("bad_batch",), {}, True))
        events.write("state", {"state": "finished", "reason": "", "step": steps})
    return run


def test_a_spike_of_one_step_in_20000_is_drawn_and_its_flag_zooms_to_it(
    book: Path, open_book: Callable[..., Any]
) -> None:
    long_run(book, spike_at=7_777)
    page = open_book(book, "/runs/run_1")
    page.wait_for_function(DRAWN)
    steps, losses = page.evaluate(LOSSES)
    assert len(steps) < 1300
    assert steps[losses.index(17.0)] == 7_777
    page.get_by_role("button", name="a batch of noise").click()
    page.wait_for_function("() => location.search.includes('first=')")
    page.wait_for_function(f"() => ({LOSSES})()[0].filter((x) => x > 7750 && x < 7800).length > 40")
    steps, losses = page.evaluate(LOSSES)
    near = [step for step in steps if 7_770 <= step <= 7_790]
    assert near == list(range(7_770, 7_791))
