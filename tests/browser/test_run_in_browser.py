"""The page of one run in a real browser: its curves, live and from near."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from made_runs import make_run, make_step, make_validation
from tunebook.book.events import EventWriter
from tunebook.book.liveness import acquire_run
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
    flag = page.get_by_role("button", name="a batch of noise")
    flag.focus()
    assert "bad_batch" in page.get_by_role("tooltip").inner_text()
    drawn = page.get_by_role("img", name="training loss").first.get_attribute("aria-label")
    assert "lowest 2 at" in drawn
    flag.click()
    page.wait_for_function("() => location.search.includes('first=')")
    page.wait_for_function(f"() => ({LOSSES})()[0].filter((x) => x > 7750 && x < 7800).length > 40")
    steps, losses = page.evaluate(LOSSES)
    near = [step for step in steps if 7_770 <= step <= 7_790]
    assert near == list(range(7_770, 7_791))


def test_a_point_is_on_the_page_within_two_seconds_of_its_step_and_the_end_is_told(
    book: Path, open_book: Callable[..., Any]
) -> None:
    run = make_run(book, "run_1", steps=5, state=None, predict=("val_loss < 1.9",))
    with acquire_run(run), EventWriter(run, 1) as events:
        events.write("facts", {"steps": 9})
        blind = {"memorised": "there are no samples"}
        events.write("verdicts", Diagnosis(5, (), ("divergence",), blind, False))
        page = open_book(book, "/runs/run_1")
        page.wait_for_function(DRAWN)
        page.get_by_text("● live").wait_for()
        page.get_by_text("What else was looked for").click()
        amber = Verdict("divergence", 4, 5, "it rises", "amber", {}, "lower the rate")
        events.write("verdicts", Diagnosis(5, (amber,), ("divergence",), blind, False))
        page.locator("#piece-verdicts", has_text="it rises").wait_for()
        # What was unfolded stays so, and keeps the focus, when its part is replaced.
        page.get_by_text("there are no samples").wait_for()
        assert page.evaluate("() => document.activeElement.tagName") == "SUMMARY"
        page.locator("#note-text-run_1").fill("half a note")
        for step in (6, 7, 8):
            written = time.monotonic()
            events.write("step", make_step(step, 1.0))
            page.wait_for_function(f"() => ({LOSSES})()[0].at(-1) === {step}")
            assert time.monotonic() - written < 2.0
        events.write("validation", make_validation(8, 1.5))
        page.locator("#piece-progress", has_text="step 8 of 9").wait_for()
        page.locator("#piece-predictions", has_text="✓ holding").wait_for()
        assert page.evaluate("() => document.activeElement.value") == "half a note"
        # A reload shows all of it, as it was.
        before = page.evaluate(LOSSES)
        assert before[0] == [0, *range(1, 9)]
        page.reload()
        page.wait_for_function(DRAWN)
        assert page.evaluate(LOSSES) == before
        events.write("state", {"state": "finished", "reason": "", "step": 8})
        page.get_by_text("the run is finished; this is all of it").wait_for()
        page.locator("#piece-predictions", has_text="✓ held").wait_for()
    page.wait_for_function("() => !document.querySelector('#live').hasAttribute('hx-get')")


def test_a_server_that_went_away_is_told_and_asked_again(
    book: Path, open_book: Callable[..., Any]
) -> None:
    run = make_run(book, "run_1", state=None)
    with acquire_run(run), EventWriter(run, 1) as events:
        page = open_book(book, "/runs/run_1")
        page.get_by_text("● live").wait_for()
        page.evaluate("() => (window.kept = fetch, window.fetch = () => Promise.reject('gone'))")
        page.get_by_text("the server does not answer; trying again").wait_for()
        events.write("step", make_step(11, 1.0))
        page.evaluate("() => (window.fetch = window.kept)")
        page.get_by_text("● live").wait_for()
        page.wait_for_function(f"() => ({LOSSES})()[0].at(-1) === 11")


def test_curves_that_could_not_be_read_for_a_moment_come_back(
    book: Path, open_book: Callable[..., Any]
) -> None:
    run = make_run(book, "run_1", state=None)
    with acquire_run(run), EventWriter(run, 1) as events:
        page = open_book(book, "/runs/run_1")
        page.wait_for_function(DRAWN)
        page.evaluate(
            """() => (window.kept = fetch, window.fetch = async () =>
            new Response('<p class="mistake">a torn line</p>', { status: 404 }))"""
        )
        page.locator(".curves-panels", has_text="a torn line").wait_for()
        events.write("step", make_step(11, 1.0))
        page.evaluate("() => (window.fetch = window.kept)")
        page.get_by_role("img", name="training loss").first.wait_for()
        page.wait_for_function(f"() => ({LOSSES})()[0].at(-1) === 11")
        page.get_by_text("● live").wait_for()


def test_a_spike_among_steps_of_one_place_is_drawn_and_an_unknown_axis_is_told(
    book: Path, open_book: Callable[..., Any]
) -> None:
    run = make_run(book, "run_1", steps=0, state=None)
    with acquire_run(run), EventWriter(run, 1) as events:
        for step in range(1, 100):
            one = make_step(step, 9.0 if step == 54 else 2.0)
            events.write("step", replace(one, epoch=round(step / 100, 1), seconds=None))
        page = open_book(book, "/runs/run_1?x=epoch")
        page.wait_for_function(DRAWN)
        epochs, losses = page.evaluate(LOSSES)
        assert epochs[losses.index(9.0)] == pytest.approx(0.5)
        # One that came later, at the place of the last, too.
        events.write("step", replace(make_step(100, 11.0), epoch=1.0, seconds=None))
        page.wait_for_function(f"() => ({LOSSES})()[1].includes(11)")
        page.locator(".curves-bar select").select_option("minutes")
        page.get_by_text("minutes are not known for 100 steps of run_1").wait_for()
        page.locator(".curves-panels", has_text="Nothing can be drawn over minutes").wait_for()


def test_steps_that_were_taken_back_are_shown_when_asked_for(
    book: Path, open_book: Callable[..., Any]
) -> None:
    run = make_run(book, "run_1", state=None)
    with EventWriter(run, 2) as events:
        events.write("state", {"state": "running", "reason": "", "step": 6})
        events.write("step", make_step(7, 1.0))
        events.write("state", {"state": "finished", "reason": "", "step": 7})
    page = open_book(book, "/runs/run_1")
    page.wait_for_function(DRAWN)
    assert page.evaluate(LOSSES)[0] == [0, *range(1, 8)]
    page.get_by_label("taken-back steps").check()
    page.wait_for_function(f"() => ({LOSSES})()[0].at(-1) === 10")
    assert page.url.endswith("?old=1")
    assert "taken back 1" in page.inner_text(".curve >> nth=0")


def test_dragging_zooms_to_every_step_and_the_address_keeps_it(
    book: Path, open_book: Callable[..., Any]
) -> None:
    long_run(book, spike_at=5_000)
    page = open_book(book, "/runs/run_1")
    page.wait_for_function(DRAWN)
    plot = page.locator(".u-over").first
    at = plot.bounding_box()
    # Held still until it lies still; let go when the page shows what was dragged over.
    plot.hover(position={"x": at["width"] * 0.24, "y": 40})
    page.mouse.down()
    plot.hover(position={"x": at["width"] * 0.26, "y": 42})
    page.wait_for_function("() => document.querySelector('.u-select').offsetWidth > 6")
    page.mouse.up()
    near = f"() => ({LOSSES})()[0].filter((x) => x >= 4900 && x <= 5100)"
    page.wait_for_function(f"() => ({near})().length === 201")
    address = page.url
    page.reload()
    page.wait_for_function(DRAWN)
    page.wait_for_function(f"() => ({near})().length === 201")
    assert page.url == address
    page.get_by_role("button", name="Whole run").click()
    page.wait_for_function(f"() => ({near})().length < 60")
    assert "first=" not in page.url
