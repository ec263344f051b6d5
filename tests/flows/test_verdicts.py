"""Verdicts from the first look at a log to the command line, and runs that end by them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from made_runs import make_run, make_step
from tunebook.book.checkpoints import list_checkpoints
from tunebook.book.events import EventTail, EventWriter, read_events
from tunebook.book.places import RunFolder
from tunebook.book.summary import summarize
from tunebook.cli.main import main
from tunebook.errors import RunEnded
from tunebook.records import Diagnosis, Verdict
from tunebook.watch import looks
from tunebook.watch.run_log import RunLog
from tunebook.workflows import verdicts
from tunebook.workflows.train import load_recipe, start_run
from tunebook.workflows.training import run_to_end

FROM = 4


def divergence(log: RunLog) -> tuple[Verdict, ...]:
    """A detector that finds what a test wants found."""
    if len(log) < FROM:
        return ()
    way_out = f"`tunebook replay RUN --step {FROM}` asks why"
    return (Verdict("divergence", FROM, len(log), "it diverges", "likely", {}, way_out),)


def train_diverging(
    book: Path,
    model: Path,
    patch: pytest.MonkeyPatch,
    stop_on: list[str],
    detect: Callable[[RunLog], tuple[Verdict, ...]] = divergence,
) -> RunFolder:
    rows = [{"instruction": f"Say {n}", "output": f"That is {n}."} for n in range(60)]
    (book / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    values = {
        "name": "run_1",
        "model": str(model),
        "data": [{"path": str(book / "rows.json")}],
        "template": "alpaca",
        "validation": {"fraction": 0.1},
        "evaluate": {"prompts": [], "every": 2},
        "train": {"max_steps": 20, "effective_batch_size": 2, "micro_batch_size": 2},
        "checkpoint": {"every": 100},
        "accept": ["random-base"],
        "stop_on": stop_on,
    }
    run = start_run(book, load_recipe(values, (), book))
    patch.setattr(looks, "diagnose", detect)
    patch.setattr(verdicts, "diagnose", detect)
    for share in ("SHARE", "SHARE_AFTER_VALIDATION"):
        patch.setattr(looks, share, 1.0)  # the steps take no time here
    with EventWriter(run, 1) as events:
        run_to_end(run, events, lambda: None, lambda: None)
    return run


def test_a_confirmed_verdict_ends_the_run_with_a_checkpoint_and_an_amber_one_does_not(
    book: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RunEnded, match="it diverges; `tunebook replay run_1 --step") as ended:
        train_diverging(book, tiny_model, monkeypatch, ["divergence"])
    assert ended.value.exit_code == 1
    run = RunFolder(book, "run_1")
    events = read_events(run)
    state = events.states[-1]
    assert (state["state"], state["step"]) == ("stopped", FROM + looks.CONFIRMED_AFTER)
    assert list_checkpoints(run)[-1].name == f"step-{state['step']}"
    assert events.diagnosis.final
    assert [v.confidence for v in events.verdicts] == ["likely"]
    assert events.verdicts[0].next_action == "`tunebook replay run_1 --step 4` asks why"
    # The state first: the process may be ended while it looks at the log.
    assert [kind for kind, _ in EventTail(run).poll()][-2:] == ["state", "verdicts"]


def test_a_detector_with_a_bug_costs_a_run_its_verdicts_and_nothing_else(
    book: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(log: RunLog) -> tuple[Verdict, ...]:
        raise IndexError("index 9 is out of bounds\nand so on")

    events = read_events(train_diverging(book, tiny_model, monkeypatch, ["divergence"], fails))
    assert events.last_state == "finished"
    assert [note for note in events.notes if "diagnosed" in note] == [
        "the run could not be diagnosed: IndexError: index 9 is out of bounds; `tunebook verdicts "
        "run_1` tries again"
    ]


def test_a_run_goes_on_under_verdicts_that_it_does_not_stop_on(
    book: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train_diverging(book, tiny_model, monkeypatch, ["overfitting"])
    assert read_events(run).last_state == "finished"
    assert summarize(run).verdicts == ("divergence",)


def test_the_last_look_stands_and_a_resume_hides_those_after_its_checkpoint(book: Path) -> None:
    run = make_run(book, "run_1", state=None)
    amber = Verdict("bad_batch", 6, 6, "c", "amber", {}, "n")
    with EventWriter(run, 1) as events:
        events.write("verdicts", Diagnosis(4, (), ("bad_batch",), {}, final=False))
        events.write("verdicts", Diagnosis(8, (amber,), ("bad_batch",), {}, final=False))
    assert read_events(run).verdicts == (amber,)
    assert (summarize(run).verdicts, summarize(run).amber) == (("bad_batch",), ("bad_batch",))
    with EventWriter(run, 2) as events:
        events.write("state", {"state": "running", "reason": "", "step": 5})
    assert read_events(run).verdicts == ()


def test_the_stored_log_of_an_old_run_is_looked_at_again(
    book: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(book, "run_1", steps=40)
    bad = make_step(41, float("nan"))
    told = Verdict("skipped_batches", 3, 3, "step 3 did not train", "certain", {}, "look")
    with EventWriter(run, 2) as events:
        events.write("step", replace(bad, examples=tuple(bad.examples * 9)))
        events.write("verdict", told)
    monkeypatch.chdir(book)
    assert main(["verdicts", "run_1", "--json"]) == 0
    found = {each["kind"]: each for each in json.loads(capsys.readouterr().out)}
    assert {"non_finite", "skipped_batches"} <= found.keys()
    assert {"step", "last_step", "cause", "confidence", "evidence", "next_action"} <= found[
        "non_finite"
    ].keys()
    assert main(["verdicts", "run_1", "--fail-if", "non_finite"]) == 4
    out, err = capsys.readouterr()
    assert "non_finite, step 41 (certain)" in out
    assert "found non_finite" in err
    assert main(["verdicts", "run_1", "--fail-if", "overfitting"]) == 0
    assert main(["verdicts", "run_1", "--fail-if", "overfit"]) == 2
    assert "did you mean `overfitting`?" in capsys.readouterr().err
