"""The feed gives every event once, and none that a later attempt took back."""

from __future__ import annotations

import math
from pathlib import Path

from made_runs import make_step, make_validation
from tunebook.book.events import EventWriter
from tunebook.book.feed import EventFeed
from tunebook.book.places import RunFolder
from tunebook.workflows.report_values import step_values, validation_values, verdict_words


def begin(run: RunFolder, attempt: int, step: int) -> EventWriter:
    events = EventWriter(run, attempt)
    events.write("state", {"state": "running", "step": step})
    return events


def test_nothing_is_given_before_the_attempt_begins_and_then_all_that_still_counts(
    book: Path,
) -> None:
    run = RunFolder(book, "run_1")
    with begin(run, 1, 0) as events:
        for step in range(1, 8):
            events.write("step", make_step(step))
    feed = EventFeed(run, 2)
    assert feed.poll() == []
    assert not feed.begun
    with begin(run, 2, 5) as events:
        steps = [event.step for event in feed.poll() if event.kind == "step"]
        assert steps == [1, 2, 3, 4, 5]
        assert feed.begun
        events.write("step", make_step(6, loss=math.nan))
        events.write("validation", make_validation(6, 2.0))
        new = feed.poll()
        assert [(event.kind, event.step) for event in new] == [("step", 6), ("validation", 6)]
        assert math.isnan(new[0].values["loss"])
        assert new[0].time > 1_700_000_000
        assert feed.poll() == []


def test_a_torn_line_waits_for_its_rest(book: Path) -> None:
    run = RunFolder(book, "run_1")
    with begin(run, 1, 0):
        feed = EventFeed(run, 1)
        assert len(feed.poll()) == 1
        path = next(run.events.iterdir())
        line = path.read_bytes()
        with open(path, "ab") as file:
            file.write(line[:20])
            file.flush()
            assert feed.poll() == []
            file.write(line[20:])
        assert len(feed.poll()) == 1


def test_numbers_keep_their_names_and_what_was_not_measured_is_left_out(book: Path) -> None:
    run = RunFolder(book, "run_1")
    with begin(run, 1, 0) as events:
        events.write("step", make_step(1, loss=math.inf))
        events.write("validation", make_validation(1, 2.0))
        events.write("verdicts", {"step": 1, "verdicts": []})
        found = {"kind": "loss_spike", "step": 3, "last_step": 5, "confidence": "likely"}
        events.write("verdicts", {"step": 5, "verdicts": [{**found, "cause": "one bad batch"}]})
    _, step, validation, quiet, spike = EventFeed(run, 1).poll()
    values = step_values(step)
    assert values["train/loss"] == math.inf
    assert values["train/tokens_per_second"] == 40.0
    assert "train/canary_loss" not in values
    assert validation_values(validation) == {
        "val/loss": 2.0,
        "val/perplexity": math.exp(2.0),
        "val/loss_low": 1.9,
        "val/loss_high": 2.1,
    }
    assert verdict_words(quiet) == "nothing found so far"
    assert verdict_words(spike) == "- **loss_spike, steps 3 to 5** (likely): one bad batch"
