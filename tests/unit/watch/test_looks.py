"""Verdicts while a run trains: amber, confirmed, withdrawn, at a bounded cost."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from made_runs import make_step, make_validation
from tunebook.records import ExampleLoss, Verdict
from tunebook.watch import looks
from tunebook.watch.looks import Looks
from tunebook.watch.run_log import RunFacts, RunLog

LIKELY = Verdict("bad_batch", 5, 5, "c", "likely", {}, "n")


@pytest.fixture
def finds(monkeypatch: pytest.MonkeyPatch) -> list[Verdict]:
    """What detectors find from now on, by the test's word."""
    found: list[Verdict] = []

    def diagnose(log: RunLog) -> tuple[Verdict, ...]:
        return tuple(found)

    monkeypatch.setattr(looks, "diagnose", diagnose)
    monkeypatch.setattr(looks, "DETECTED", frozenset(("bad_batch", "lr_jump")))
    return found


def grown(looking: Looks, to: int) -> Looks:
    for step in range(1, to + 1):
        looking.add(make_step(step))
    return looking


def test_a_finding_is_amber_until_later_steps_confirm_it_and_is_told_only_when_it_changes(
    finds: list[Verdict],
) -> None:
    looking = grown(Looks(RunFacts()), 6)
    first = looking.look()
    assert first is not None
    assert first.verdicts == ()
    assert looking.look() is None
    finds.append(LIKELY)
    told = looking.look()
    assert told is not None
    assert [v.confidence for v in told.verdicts] == ["amber"]
    looking.add(make_step(7))
    assert looking.look() is None
    looking.add(make_step(6 + looks.CONFIRMED_AFTER))
    finds[0] = replace(LIKELY, last_step=7)
    told = looking.look()
    assert told is not None
    assert [v.confidence for v in told.verdicts] == ["likely"]


def test_a_finding_that_later_looks_do_not_make_is_withdrawn(finds: list[Verdict]) -> None:
    looking = grown(Looks(RunFacts()), 6)
    finds.append(LIKELY)
    looking.look()
    finds[0] = replace(LIKELY, kind="lr_jump", confidence="certain")
    told = looking.look()
    assert told is not None
    assert [(v.kind, v.confidence) for v in told.verdicts] == [("lr_jump", "certain")]


def test_what_stood_before_a_resume_stands_and_is_not_amber_again(finds: list[Verdict]) -> None:
    finds.append(LIKELY)
    steps = [make_step(step) for step in range(1, 7)]
    resumed = Looks(RunFacts(), steps, known=[LIKELY])
    told = resumed.look()
    assert told is not None
    assert told.verdicts == (LIKELY,)


def test_memory_is_bounded_and_what_went_out_of_sight_is_not_withdrawn(
    finds: list[Verdict], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looks, "KEPT_EXAMPLES", 10)
    seen: list[RunLog] = []
    looking = grown(Looks(RunFacts()), 6)
    finds.append(LIKELY)
    looking.look()
    for step in range(7, 30):
        looking.add(make_step(step))
    finds.clear()

    def diagnose(log: RunLog) -> tuple[Verdict, ...]:
        seen.append(log)
        return ()

    monkeypatch.setattr(looks, "diagnose", diagnose)
    looking.look()
    assert [v.kind for v in looking.verdicts] == ["bad_batch"]
    assert len(seen[0]) == 29
    assert sum(len(step.examples) for step in seen[0].steps) == 10


def test_losses_of_documents_are_kept_of_the_base_the_best_the_last_and_some_between(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[RunLog] = []

    def diagnose(log: RunLog) -> tuple[Verdict, ...]:
        seen.append(log)
        return ()

    monkeypatch.setattr(looks, "diagnose", diagnose)
    looking = grown(Looks(RunFacts()), 6)
    for step in range(200):
        loss = math.nan if step == 1 else 2 + abs(step - 77) / 100
        documents = (ExampleLoss("d", loss, 1),)
        looking.add_validation(replace(make_validation(step, loss), per_document=documents))
    looking.look()
    assert [v.step for v in seen[0].validations] == list(range(200))
    kept = {v.step for v in seen[0].validations if v.per_document}
    assert kept >= {0, 77, 197, 198, 199}
    assert 10 < len(kept) <= looks.KEPT_DOCUMENTS


def test_looks_take_their_share_of_the_time_and_no_more() -> None:
    looking = Looks(RunFacts())
    assert not looking.due(5, 0.5, validated=False)
    assert looking.due(5, 0.5, validated=True)
    looking.spend(3, 0.1, 0.4)  # of the first look, most is loading
    looking.spend(5, 0.5, 0.54)
    assert not looking.due(7, 0.7, validated=True)  # 0.04 s of 0.7 s
    assert looking.due(7, 0.9, validated=True)
    assert not looking.due(15, 3.0, validated=False)  # 0.04 s of 3 s
    assert not looking.due(14, 5.0, validated=False)  # fewer than 10 steps later
    assert looking.due(15, 5.0, validated=False)
    looking.spend(15, 5.0, 5.0)
    assert not looking.due(25, 5.9, validated=False)  # less than a second later


def test_an_effect_ends_a_run_once_it_is_confirmed_with_its_cause(finds: list[Verdict]) -> None:
    looking = grown(Looks(RunFacts()), 6)
    finds.append(replace(LIKELY, kind="lr_jump", evidence={"followed_by": ["divergence"]}))
    looking.look()
    assert looking.ends({"divergence"}) is None
    looking.add(make_step(6 + looks.CONFIRMED_AFTER))
    finds[0] = replace(finds[0], last_step=7)
    looking.look()
    assert looking.ends({"divergence"}) == "divergence after lr_jump: c; n"
    assert looking.ends({"overfitting"}) is None
