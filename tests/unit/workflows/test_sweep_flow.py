"""What a sweep does with its trials, with workers in place of processes: nothing is trained."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from made_runs import RECIPE, make_step, make_validation
from tunebook.book.events import EventWriter
from tunebook.book.places import RunFolder
from tunebook.book.sweeps import SweepFolder, SweepTrial, read_trials
from tunebook.errors import BookError, RunEnded, RunFileError
from tunebook.recipe.sweep import Budget
from tunebook.workflows import sweep as sweeps
from tunebook.workflows.sweep_budget import WAIT, spent
from tunebook.workflows.sweep_plan import SweepPlan
from tunebook.workflows.sweep_queue import Ended, Need
from tunebook.workflows.sweep_ray import SILENT_SECONDS, RayWorkers


def end_run(run: RunFolder, loss: float, state: str = "finished", step: int = 10) -> None:
    """Write what a trainer would have: a step, a validation, and how it ended."""
    run.events.mkdir(parents=True, exist_ok=True)
    text = RECIPE.format(
        name=run.name, extends="~", model="m", method="full", rank=8, learning_rate=1
    )
    run.resolved_yaml.write_text(text, encoding="utf-8")
    with EventWriter(run, 1) as events:
        events.write("state", {"state": "running", "reason": "", "step": 0})
        events.write("step", make_step(step))
        events.write("validation", make_validation(step, loss))
        events.write("state", {"state": state, "reason": "", "step": step})


@dataclass
class FakeWorkers:
    """Ends each trial in the poll after it was begun, as `outcome` says."""

    book: Path
    outcome: Callable[[SweepTrial], tuple[int, str]]
    room: bool = True
    begun: list[str] = field(default_factory=list)
    going: list[SweepTrial] = field(default_factory=list)
    pauses: int = 0
    on_start: Callable[[], None] = lambda: None

    def start(self, trial: SweepTrial, _need: Need) -> bool:
        if not self.room or self.going:
            return False
        self.begun.append(trial.name)
        self.going.append(trial)
        self.on_start()
        return True

    def poll(self, _seconds: float) -> list[Ended]:
        ended = [Ended(trial, *self.outcome(trial)) for trial in self.going]
        self.going.clear()
        return ended

    def running(self) -> Sequence[SweepTrial]:
        return list(self.going)

    def pause(self) -> None:
        self.pauses += 1

    def close(self) -> None:
        pass


@pytest.fixture
def prepared(book: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Path, Any]]:
    """Write a base run file and a sweep of it; gives the sweep file and the workers."""

    def prepare(outcome: Callable[[SweepTrial], tuple[int, str]], **changes: Any) -> Any:
        (book / "rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n', encoding="utf-8")
        base = {"name": "base", "model": "tunebook/tiny", "data": [{"path": "rows.jsonl"}]}
        (book / "base.yaml").write_text(json.dumps(base), encoding="utf-8")
        over = {"train.learning_rate": [1e-3, 1e-4]}
        values = {"name": "s", "run": "base.yaml", "over": over, **changes}
        path = book / "sweep.yaml"
        path.write_text(json.dumps(values), encoding="utf-8")
        workers = FakeWorkers(book, outcome)
        plan = SimpleNamespace(
            device="cpu",
            memory=SimpleNamespace(resident_bytes=10**9, device_bytes=None),
            time=SimpleNamespace(seconds=1.0),
            tokens=100,
        )

        def planned(found: Any, *_: Any) -> SweepPlan:
            return SweepPlan(found, (({}, plan),), 0)  # type: ignore[arg-type]

        monkeypatch.setattr(sweeps, "plan_sweep", planned)
        monkeypatch.setattr(sweeps, "_workers", lambda *_: workers)
        return path, workers

    return prepare


def finishing(book: Path) -> Callable[[SweepTrial], tuple[int, str]]:
    def outcome(trial: SweepTrial) -> tuple[int, str]:
        end_run(trial.run(book), 1.0 / trial.point)
        return 0, ""

    return outcome


def test_a_run_that_a_verdict_ended_is_never_the_best(book: Path, prepared: Any) -> None:
    def outcome(trial: SweepTrial) -> tuple[int, str]:
        stopped = trial.point == 1
        end_run(trial.run(book), 0.5 if stopped else 2.0, "stopped" if stopped else "finished")
        return 0, ""

    path, _ = prepared(outcome)
    result = sweeps.sweep(path, book=book)
    assert result.best == 2
    assert [point.mean for point in result.points] == [2.0, None]
    assert "0.0001" in (book / "sweeps/s/best.yaml").read_text(encoding="utf-8")


def test_a_changed_run_file_is_not_mixed_into_a_sweep_that_began(book: Path, prepared: Any) -> None:
    path, _ = prepared(finishing(book), budget={"trials": 1})
    sweeps.sweep(path, book=book)
    base = json.loads((book / "base.yaml").read_text(encoding="utf-8"))
    base["train"] = {"effective_batch_size": 16}
    (book / "base.yaml").write_text(json.dumps(base), encoding="utf-8")
    with pytest.raises(BookError, match=r"begun with another `train` in .*base\.yaml"):
        sweeps.sweep(path, book=book, trials=2)


def test_one_part_of_many_can_be_swept_and_all_of_them_cannot(book: Path, prepared: Any) -> None:
    path, _ = prepared(finishing(book))
    base = json.loads((book / "base.yaml").read_text(encoding="utf-8"))
    (book / "base.yaml").write_text(json.dumps({**base, "parts": 10}), encoding="utf-8")
    with pytest.raises(RunFileError, match="`part: 1` beside `parts`"):
        sweeps.sweep(path, book=book)
    part = json.dumps({**base, "parts": 10, "part": 1})
    (book / "base.yaml").write_text(part, encoding="utf-8")
    assert sweeps.sweep(path, book=book).best == 2


def test_an_interrupt_while_trials_begin_pauses_them(book: Path, prepared: Any) -> None:
    path, workers = prepared(finishing(book))
    workers.on_start = lambda: os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(RunEnded, match="goes on with it") as ended:
        sweeps.sweep(path, book=book)
    assert ended.value.exit_code == 130
    assert workers.pauses == 1
    assert workers.begun == ["s-001"]


def test_a_trial_that_fits_nowhere_is_named(book: Path, prepared: Any) -> None:
    path, workers = prepared(finishing(book))
    workers.room = False
    with pytest.raises(RunEnded, match="s-001 fits nowhere here: it takes 954 MiB"):
        sweeps.sweep(path, book=book)


def test_a_folder_that_a_kill_left_without_its_run_file_is_made_anew(
    book: Path, prepared: Any
) -> None:
    path, workers = prepared(finishing(book), budget={"trials": 1})
    workers.room = False
    with pytest.raises(RunEnded):
        sweeps.sweep(path, book=book)
    run = RunFolder(book, "s-001")
    run.run_yaml.unlink()
    workers.room = True
    assert sweeps.sweep(path, book=book).best == 1


def test_a_name_that_is_taken_is_told_before_any_trial(book: Path, prepared: Any) -> None:
    path, workers = prepared(finishing(book))
    (book / "runs/s-002").mkdir(parents=True)
    (book / "runs/s-001_next").mkdir()  # made from a trial by hand: none of ours
    with pytest.raises(BookError, match="the name s-002 is taken"):
        sweeps.sweep(path, book=book)
    assert not workers.begun


def test_a_trial_that_was_asked_to_stop_is_left_and_one_that_was_killed_goes_on(
    book: Path, prepared: Any
) -> None:
    seen: list[str] = []

    def outcome(trial: SweepTrial) -> tuple[int, str]:
        seen.append(trial.name)
        if trial.point == 1:
            end_run(trial.run(book), 1.0, "paused", step=2)
            return 143, "run s-001 paused: stopped after step 2"
        if seen.count(trial.name) == 1:
            return -9, ""
        end_run(trial.run(book), 1.0)
        return 0, ""

    path, _ = prepared(outcome)
    result = sweeps.sweep(path, book=book)
    assert seen == ["s-001", "s-002", "s-002"]
    assert result.failed == {"s-001": "run s-001 paused: stopped after step 2"}
    assert result.best == 2


def test_retries_have_an_end(book: Path, prepared: Any) -> None:
    path, workers = prepared(lambda _: (-9, "killed"), retries=2, budget={"trials": 1})
    result = sweeps.sweep(path, book=book)
    assert workers.begun == ["s-001"] * 3
    assert result.failed == {"s-001": "killed"}


def test_a_screen_that_is_gone_ends_no_sweep(book: Path, prepared: Any) -> None:
    def say(_: str) -> None:
        raise BrokenPipeError

    path, _ = prepared(finishing(book))
    assert sweeps.sweep(path, book=book, say=say).best == 2
    assert len(read_trials(SweepFolder(book, "s"))) == 2


def test_two_combinations_that_are_one_run_are_refused(book: Path, prepared: Any) -> None:
    over = {"method": ["full", "lora"], "lora.rank": [8, 16]}
    path, workers = prepared(finishing(book), over=over)
    with pytest.raises(RunFileError, match=r"combination 2 .* is the same run as combination 1"):
        sweeps.sweep(path, book=book)
    assert not workers.begun


@pytest.mark.parametrize(
    ("budget", "n_next", "said"),
    [
        (Budget(hours=1), 3, "1 hours would be passed"),
        (Budget(hours=1), 1, ""),
        (Budget(tokens=100), 3, "100 tokens would be passed"),
        (Budget(tokens=100), 1, ""),
    ],
)
def test_budgets_hold_for_all_seeds_of_the_next_combination(
    book: Path, budget: Budget, n_next: int, said: str
) -> None:
    assert spent(budget, [], [], book, n_next=n_next, seconds=3000.0, tokens=90.0) == said


def test_hours_wait_for_the_first_trial_where_nothing_was_measured(book: Path) -> None:
    trial = SweepTrial("b-001", 1, None, {}, None)
    trial.run(book).path.mkdir(parents=True)
    trial.run(book).run_yaml.write_text("name: b-001\nmodel: m\n", encoding="utf-8")
    budget = Budget(hours=1)
    nothing: dict[str, Any] = {"n_next": 1, "seconds": None, "tokens": None}
    assert spent(budget, [], [], book, **nothing) == ""
    assert spent(budget, [trial], ["b-001"], book, **nothing) == WAIT


def test_a_trial_that_fell_silent_on_a_cluster_may_begin_again(
    book: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("tunebook.workflows.sweep_ray.time.monotonic", lambda: now[0])
    states = iter(["running", "paused"])
    monkeypatch.setattr(
        "tunebook.workflows.sweep_ray.current_state", lambda _: next(states, "paused")
    )
    workers = RayWorkers.__new__(RayWorkers)
    trial = SweepTrial("s-001", 1, None, {}, None)
    workers._book, workers._alive = book, {}
    workers._ray = SimpleNamespace(wait=lambda *_, **__: ([], []), cancel=lambda *_, **__: None)
    workers._tasks = {"s-001": (trial, "first")}
    assert workers.poll(0.0) == []
    now[0] = SILENT_SECONDS + 1
    [ended] = workers.poll(0.0)
    assert "no heartbeat" in ended.words
    workers._tasks = {"s-001": (trial, "second")}
    assert workers.poll(0.0) == []  # it has not been seen alive yet


def test_signals_that_are_ignored_stay_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        seen: list[int] = []
        with sweeps._noting_signals(seen):
            os.kill(os.getpid(), signal.SIGHUP)
        assert seen == []
    finally:
        signal.signal(signal.SIGHUP, before)
