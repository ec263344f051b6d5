"""What a page draws: few points, every spike, verdicts at their place, only what is new."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from made_runs import make_run, make_step, make_validation
from tunebook.book.events import EventWriter
from tunebook.book.replays import write_replay
from tunebook.pages.run_steps import read_steps
from tunebook.records import Diagnosis, Verdict
from tunebook.trials import Replay
from tunebook.web.app import make_app


@pytest.fixture
def client(book: Path) -> TestClient:
    return TestClient(make_app(book), base_url="http://127.0.0.1")


def only_run(client: TestClient, query: str) -> dict:
    answer = client.get(f"/curves.json?run=run_1&{query}")
    assert answer.status_code == 200, answer.text
    return answer.json()["runs"][0]


def test_a_long_run_is_few_points_with_its_spike_of_one_step(
    book: Path, client: TestClient
) -> None:
    run = make_run(book, "run_1", steps=3000, state=None)
    with EventWriter(run, 1) as events:
        events.write("step", make_step(3001, 17.0))
        for step in range(3002, 4000):
            events.write("step", make_step(step, 2.0))
    loss = only_run(client, "y=loss&buckets=100")["series"]["loss"]
    assert len(loss["x"]) <= 202
    assert (loss["x"][loss["y"].index(17.0)], max(loss["y"])) == (3001.0, 17.0)
    speed = only_run(client, "y=target_tokens_per_second&last=3")["series"]
    assert speed["target_tokens_per_second"]["y"] == [20.0] * 3
    near = only_run(client, "y=loss&buckets=100&first=2990&last=3010")["series"]["loss"]
    assert near["x"] == [float(n) for n in range(2990, 3011)]


def test_only_what_comes_after_a_step_is_sent_to_who_has_the_rest(
    book: Path, client: TestClient
) -> None:
    run = make_run(book, "run_1", state=None)
    before = only_run(client, "since=10")
    assert before["series"]["loss"]["x"] == []
    with EventWriter(run, 1) as events:
        events.write("step", make_step(11, 1.5))
    after = only_run(client, "since=10")
    assert after["series"]["loss"] == {"x": [11.0], "y": [1.5], "broken": []}
    assert after["version"] != before["version"]
    assert after["generation"] == before["generation"]


def test_a_validation_that_came_after_its_step_is_still_sent(
    book: Path, client: TestClient
) -> None:
    run = make_run(book, "run_1", state=None)
    with EventWriter(run, 1) as events:
        events.write("step", make_step(11, 1.5))
        assert only_run(client, "since=10")["last_step"] == 11
        events.write("validation", make_validation(11, 1.7))
        events.write("step", make_step(12, 1.4))
    after = only_run(client, "since=11")["series"]
    assert (after["loss"]["x"], after["val_loss"]["y"]) == ([12.0], [1.7])


def test_steps_that_were_taken_again_are_kept_apart(book: Path, client: TestClient) -> None:
    run = make_run(book, "run_1", state=None)
    with EventWriter(run, 2) as events:
        events.write("state", {"state": "running", "reason": "", "step": 8})
        events.write("step", make_step(9, 1.0))
    found = only_run(client, "y=loss&superseded=true")
    assert found["series"]["loss"]["x"] == [*map(float, range(1, 10))]
    assert found["superseded"] == [{"x": [9.0, 10.0], "y": [2.1, 2.0]}]


@pytest.mark.parametrize(
    ("x", "last"), [("step", 10), ("epoch", 1), ("examples", 10), ("tokens", 200)]
)
def test_the_axis_counts_what_was_asked_for(
    book: Path, client: TestClient, x: str, last: float
) -> None:
    make_run(book, "run_1")
    series = only_run(client, f"x={x}")["series"]
    assert series["loss"]["x"][-1] == last
    assert series["val_loss"]["x"] == [0.0, last]


def test_a_verdict_is_a_flag_at_its_step_and_a_loss_that_is_no_number_is_told(
    book: Path, client: TestClient
) -> None:
    run = make_run(book, "run_1", state=None)
    spike = Verdict("bad_batch", 4, 5, "a batch of noise", "likely", {}, "")
    with EventWriter(run, 1) as events:
        events.write("step", make_step(11, float("nan")))
        events.write("verdicts", Diagnosis(11, (spike,), ("bad_batch",), {}, False))
    found = only_run(client, "x=tokens")
    (flag,) = found["flags"]
    assert (flag["kind"], flag["first"], flag["last"]) == ("bad_batch", 80.0, 100.0)
    assert "a batch of noise" in flag["text"]
    assert found["series"]["loss"]["broken"] == [220.0]


def test_what_is_not_there_is_said_in_a_sentence(book: Path, client: TestClient) -> None:
    make_run(book, "run_1")
    wrong = client.get("/curves.json?run=run_1&y=luck")
    assert wrong.status_code == 400
    assert "luck" in wrong.text
    assert client.get("/curves.json?run=nobody").status_code == 404


def test_a_place_that_is_not_known_is_not_drawn_at_0(book: Path, client: TestClient) -> None:
    run = make_run(book, "run_1", steps=0, state=None)
    with EventWriter(run, 1) as events:
        for step in range(1, 5):
            known = {"seconds": 60.0} if step < 3 else {"seconds": None}
            events.write("step", replace(make_step(step), tokens=None, **known))
        events.write("validation", make_validation(4, 2.0))
        late = Verdict("bad_batch", 4, 4, "a batch of noise", "likely", {}, "")
        events.write("verdicts", Diagnosis(4, (late,), ("bad_batch",), {}, False))
    by_minutes = only_run(client, "x=minutes")
    assert by_minutes["series"]["loss"]["x"] == [1.0, 2.0]
    assert by_minutes["series"]["val_loss"]["x"] == [0.0]
    assert (by_minutes["unplaced"], by_minutes["flags"]) == (2, [])
    by_tokens = only_run(client, "x=tokens")
    assert by_tokens["unplaced"] == 4
    assert [one["x"] for one in by_tokens["series"].values()] == [[], []]
    assert len(only_run(client, "x=step")["flags"]) == 1


def test_the_curve_and_the_figure_flag_what_a_replay_established(
    book: Path, client: TestClient
) -> None:
    run = make_run(book, "run_1", steps=30, state=None)
    guess = Verdict("bad_batch", 20, 21, "perhaps a batch", "possible", {}, "")
    with EventWriter(run, 1) as events:
        events.write("verdicts", Diagnosis(30, (guess,), ("bad_batch",), {}, True))
    before = only_run(client, "since=30")["flags"], read_steps(run).curves
    sure = Verdict("corrupted_targets", 20, 20, "surely those", "certain", {}, "")
    write_replay(run, Replay(20, 10, 25, 0.0, "loss", (), {}, {}, sure, 1.0))
    after = only_run(client, "since=30")["flags"], read_steps(run).curves
    assert [[flag["kind"] for flag in flags] for flags, _ in (before, after)] == [
        ["bad_batch"],
        ["corrupted_targets"],
    ]
    assert after[1].flags == [("corrupted_targets", 20, 20)]
    assert after[1].digest() != before[1].digest()


def test_many_validations_and_steps_taken_back_are_few_points_too(
    book: Path, client: TestClient
) -> None:
    run = make_run(book, "run_1", steps=0, state=None)
    with EventWriter(run, 1) as events:
        for step in range(1, 400):
            events.write("step", make_step(step, 2.0))
            events.write("validation", make_validation(step, 7.0 if step == 50 else 2.0))
    with EventWriter(run, 2) as events:
        events.write("state", {"state": "running", "reason": "", "step": 300})
    found = only_run(client, "superseded=true&buckets=20&first=1&last=350")
    held_out = found["series"]["val_loss"]
    assert len(held_out["x"]) <= 42
    spike = held_out["x"].index(50.0)
    assert [held_out[one][spike] for one in ("y", "low", "high")] == [7.0, 6.9, 7.1]
    (old,) = found["superseded"]
    assert (old["x"][0], old["x"][-1]) == (301.0, 350.0)
    assert "superseded" not in only_run(client, "superseded=true&since=300")


def test_a_log_that_holds_no_numbers_and_a_step_too_far_are_told(
    book: Path, client: TestClient
) -> None:
    run = make_run(book, "run_1", state=None)
    assert client.get(f"/curves.json?run=run_1&since=1{400 * '0'}").status_code == 400
    with EventWriter(run, 1) as events:
        odd = Verdict("bad_batch", "a", None, "a batch of noise", "likely", {}, "")  # type: ignore[arg-type]
        events.write("verdicts", Diagnosis(10, (odd,), ("bad_batch",), {}, True))
    told = client.get("/curves.json?run=run_1")
    assert told.status_code == 404
    said = re.search(r"run run_1: event \d+ of attempt 1 is no verdicts event \((.*?)\)", told.text)
    assert said is not None
    assert html.unescape(said[1]) == "'a' where int belongs"
