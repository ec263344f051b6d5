"""A cause that a replay established stands in the place of what the log alone says of the spike."""

from __future__ import annotations

from tunebook.book.diagnosis import with_replays
from tunebook.records import Diagnosis, Verdict
from tunebook.trials import Replay


def verdict(kind: str, step: int, last_step: int | None = None, sure: bool = False) -> Verdict:
    return Verdict(
        kind, step, last_step, "a cause", "certain" if sure else "likely", {}, "do something"
    )


def replayed(step: int, kind: str) -> Replay:
    return Replay(
        step=step,
        after_step=0,
        last_step=step + 5,
        difference=0.0,
        measure="canary",
        trials=(),
        left_out={},
        rows={},
        verdict=verdict(kind, step, sure=True),
        seconds=1.0,
    )


def kinds_after(found: list[Verdict], *replays: Replay) -> list[str]:
    diagnosis = Diagnosis(80, tuple(found), (), {}, final=True)
    return [v.kind for v in with_replays(diagnosis, replays).verdicts]


def test_a_replay_within_an_incident_replaces_it_and_leaves_the_others() -> None:
    found = [verdict("lr_too_high", 1, 30), verdict("bad_batch", 60), verdict("overfitting", 2, 40)]
    assert kinds_after(found, replayed(3, "peak_lr")) == ["overfitting", "peak_lr", "bad_batch"]


def test_a_replay_of_another_step_stands_beside() -> None:
    found = [verdict("bad_batch", 60)]
    assert kinds_after(found, replayed(20, "peak_lr")) == ["peak_lr", "bad_batch"]
