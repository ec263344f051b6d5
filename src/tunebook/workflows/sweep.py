"""What `tunebook sweep` does: runs over combinations of settings, each an ordinary run.

1. The sweep file and every combination that is known beforehand are checked, with nothing written.
2. What it will take is planned.
3. Trials are begun where there is room, and go on from their checkpoints when they were killed.
4. What came of them is compared, and the best is written as a run file.

A trial is written down before its run is made, and a run that has ended is not trained again, so a
sweep that was broken off goes on where it was.
"""

from __future__ import annotations

import shlex
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunebook.book.atomic import storage_errors, write_text
from tunebook.book.events import read_events
from tunebook.book.inside import refuse_linked_run
from tunebook.book.liveness import ENDED, current_state
from tunebook.book.places import find_book_of
from tunebook.book.summary import summarize
from tunebook.book.sweeps import SweepFolder, SweepTrial, add_trial, read_trials
from tunebook.book.writing import make_folder
from tunebook.data.build import Say
from tunebook.errors import BookError, RunEnded
from tunebook.recipe.sweep import Sweep, load_sweep, overrides_of
from tunebook.trials import SweepResult
from tunebook.units import format_bytes
from tunebook.workflows.new import new_run
from tunebook.workflows.sweep_budget import WAIT, spent
from tunebook.workflows.sweep_checks import (
    check_points,
    keep_base,
    refuse_other,
    refuse_taken,
    run_of,
    with_paths,
)
from tunebook.workflows.sweep_plan import SweepPlan, plan_sweep
from tunebook.workflows.sweep_proposals import Proposals, proposals_of
from tunebook.workflows.sweep_queue import Ended, LocalWorkers, Need, Workers, places_here
from tunebook.workflows.sweep_result import keep_result, result_of, sum_up
from tunebook.workflows.train import load_recipe

_POLL_SECONDS = 0.5
_HERE = (None, "local")
# When so many fail before any succeeds the sweep itself is wrong, and not its settings.
_FAILED_AT_FIRST = 3


@dataclass(slots=True)
class _Going:
    """A sweep that goes on: what it is made of, and how often trials were killed."""

    sweep: Sweep
    folder: SweepFolder
    run: str
    seed: int
    planned: SweepPlan
    proposals: Proposals
    trials: list[SweepTrial]
    say: Say
    killed: Counter[str] = field(default_factory=Counter)
    failed: dict[str, str] = field(default_factory=dict)
    told: set[int] = field(default_factory=set)
    needs: dict[str, Need] = field(default_factory=dict)
    full: str = ""
    succeeded: bool = False

    @property
    def book(self) -> Path:
        return self.folder.book


def plan_only(
    file: str | Path,
    *,
    trials: int | None = None,
    book: Path | None = None,
    say: Say = lambda _: None,
) -> SweepPlan:
    """Plan the trials of a sweep file and write nothing; raises what `sweep` would."""
    book = find_book_of(file) if book is None else book
    found, _ = load_sweep(Path(file), {"trials": trials} if trials else None)
    run = run_of(found, Path(file))
    found = with_paths(found, Path(file).parent)
    check_points(found, run, book)
    return plan_sweep(found, run, book, say)


def sweep(
    file: str | Path,
    *,
    trials: int | None = None,
    workers: int | None = None,
    on: str | None = None,
    book: Path | None = None,
    say: Say = lambda _: None,
) -> SweepResult:
    """Train the trials of a sweep file that are not trained yet, and sum up what came of them.

    `trials` stands above the file's budget; `workers` trials run at once, None: as many as there is
    room for; `on` is the address of a Ray cluster. Raises RunFileError, BookError or PlanRefused
    for what is wrong with the sweep, RunEnded when it was stopped before its end.
    """
    say = _surviving(say)
    book = find_book_of(file) if book is None else book
    path = Path(file)
    found, written = load_sweep(path, {"trials": trials} if trials else None)
    run = run_of(found, path)
    base = check_points(with_paths(found, path.parent), run, book)
    folder = SweepFolder(book, found.name)
    refuse_other(folder, found, base)
    found = with_paths(found, path.parent)
    with _alone(folder):
        begun = read_trials(folder)
        refuse_taken(found, begun, book)
        proposals = proposals_of(found, folder, begun)
        going = _Going(found, folder, run, base.seed, _NO_PLAN, proposals, begun, say)
        if _left(going):
            if on not in _HERE:
                from tunebook.workflows.sweep_ray import find_ray

                find_ray(on)
            going.planned = plan_sweep(found, run, book, say)
            for line in going.planned.words(workers):
                say(line)
            write_text(folder.sweep_yaml, written)
            keep_base(folder, base)
            _train(going, _workers(going, workers, on), str(file))
        result = sum_up(found, run, read_trials(folder), book, going.failed, going.full)
        keep_result(result, folder, run)
    return result


_NO_PLAN: Any = None


def _surviving(say: Say) -> Say:
    """Go on in silence when the screen is gone: a closed pipe or terminal ends no training."""
    gone = False

    def surviving(text: str) -> None:
        nonlocal gone
        if not gone:
            try:
                say(text)
            except OSError:
                gone = True

    return surviving


@contextmanager
def _alone(folder: SweepFolder) -> Iterator[None]:
    from filelock import FileLock, Timeout

    with storage_errors(f"write the sweep {folder.name}", folder.book):
        make_folder(folder.book, folder.path)
    lock = FileLock(folder.lock, timeout=1)
    try:
        with storage_errors(f"lock the sweep {folder.name}", folder.path):
            lock.acquire()
    except Timeout:
        raise BookError(
            f"sweep {folder.name} is going on in another process; `tunebook runs --filter "
            f"tags=sweep-{folder.name}` shows its trials"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _workers(going: _Going, workers: int | None, on: str | None) -> Workers:
    if on not in _HERE:
        from tunebook.workflows.sweep_ray import RayWorkers

        return RayWorkers(going.book, on, workers, going.planned.card_bytes)
    kind = "cuda" if going.planned.card_bytes is not None else "cpu"
    return LocalWorkers(going.book, places_here(kind, workers), workers)


# --- training -----------------------------------------------------------------------------------


def _train(going: _Going, workers: Workers, file: str) -> None:
    waiting = [t for t in going.trials if current_state(t.run(going.book)) not in ENDED]
    for point in sorted({trial.point for trial in going.trials}):
        _tell(going, point)  # what ended before
    interrupted: list[int] = []
    paused = False
    with closing(workers), _noting_signals(interrupted):
        while True:
            if not interrupted:
                _fill(going, workers, waiting)
            if not workers.running():
                if waiting and not interrupted:
                    raise _no_room(going, waiting[0])
                break
            for ended in workers.poll(_POLL_SECONDS):
                _take_in(going, ended, waiting, interrupted=bool(interrupted))
            if interrupted and not paused:
                paused = True
                going.say("saving and pausing the trials that run; once more stops them at once")
                workers.pause()
            if len(interrupted) > 1:
                break
    if interrupted:
        code = 130 if interrupted[0] == signal.SIGINT else 143
        raise RunEnded(
            f"sweep {going.sweep.name} was stopped; "
            f"`tunebook sweep {shlex.quote(str(file))}` goes on with it",
            code,
        )


def _no_room(going: _Going, trial: SweepTrial) -> RunEnded:
    need = going.needs[trial.name]
    devices = f" on each of {need.devices} devices" if need.devices > 1 else ""
    return RunEnded(
        f"{trial.name} fits nowhere here: it takes {format_bytes(need.n_bytes)}{devices}; sweep "
        "smaller settings, or where there is more",
        1,
    )


@contextmanager
def _noting_signals(seen: list[int]) -> Iterator[None]:
    def note(number: int, _frame: object) -> None:
        seen.append(number)

    # What is ignored stays ignored: nohup means that a closed terminal must not pause the sweep.
    numbers = [
        number
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN
    ]
    try:
        before = {number: signal.signal(number, note) for number in numbers}
    except ValueError:  # not the main thread: whoever owns it decides
        before = {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _fill(going: _Going, workers: Workers, waiting: list[SweepTrial]) -> None:
    """Begin trials until there is no room or nothing to begin."""
    while waiting or not going.full:
        if not waiting:
            waiting += _next_point(going, workers)
            if not waiting:
                return
        trial = waiting[0]
        if trial.name not in going.needs:
            make_run(going.book, going.sweep, going.run, trial)
            devices = load_recipe(trial.name, (), going.book).recipe.devices
            going.needs[trial.name] = going.planned.need_of(trial.settings, devices)
        if not workers.start(trial, going.needs[trial.name]):
            return
        waiting.pop(0)
        going.say(f"{trial.name} begins: {_settings_text(trial)}")


def _left(going: _Going) -> bool:
    """Tell whether any trial is left to train."""
    states = [current_state(t.run(going.book)) for t in going.trials]
    return any(s not in ENDED for s in states) or len(going.trials) < going.sweep.n_runs


def _next_point(going: _Going, workers: Workers) -> list[SweepTrial]:
    """Propose the next combination and write its trials down; none where the budget is spent."""
    sweep, begun = going.sweep, len(going.trials)
    if begun >= sweep.n_runs:
        going.full = "all"
        return []
    last = going.trials[-1].point if going.trials else 0
    there = [trial for trial in going.trials if trial.point == last]
    words = going.full or _spent(going, workers, sweep.seeds - len(there) % sweep.seeds)
    if words == WAIT:
        return []
    if words:
        going.full = words
        going.say(f"no further trial begins: {going.full}")
        return []
    if 0 < len(there) < sweep.seeds:  # a smaller budget cut its seeds off
        point, settings, proposal = last, dict(there[0].settings), there[0].proposal
    else:
        point, there = last + 1, []
        settings, proposal = going.proposals.ask(point)
    seeds = range(going.seed + len(there), going.seed + sweep.seeds)
    made = []
    for seed in seeds[: sweep.n_runs - begun]:
        own = "" if sweep.seeds == 1 else f"-s{seed}"
        stated = None if sweep.seeds == 1 else seed
        trial = SweepTrial(f"{sweep.name}-{point:03d}{own}", point, stated, settings, proposal)
        add_trial(going.folder, trial)
        going.trials.append(trial)
        made.append(trial)
    return made


def make_run(book: Path, sweep: Sweep, run: str, trial: SweepTrial) -> None:
    """Write the run file of a trial, where it is not there yet."""
    there = trial.run(book)
    if there.run_yaml.exists():
        return
    if there.exists() and not there.started():  # killed between the folder and the file in it
        refuse_linked_run(there)
        shutil.rmtree(there.path)
    settings = dict(trial.settings)
    if trial.seed is not None:
        settings["seed"] = trial.seed
    own = {"stop_on": sweep.stop_on, "notebook.tags": [f"sweep-{sweep.name}"]}
    new_run(book, trial.name, overrides_of({**settings, **own}), run)


def _spent(going: _Going, workers: Workers, n_next: int) -> str:
    planned, n = going.planned, going.sweep.n_runs
    return spent(
        going.sweep.budget,
        going.trials,
        [trial.name for trial in workers.running()],
        going.book,
        n_next=n_next,
        seconds=None if planned.seconds is None else planned.seconds / n,
        tokens=None if planned.tokens is None else planned.tokens / n,
    )


def _take_in(going: _Going, ended: Ended, waiting: list[SweepTrial], *, interrupted: bool) -> None:
    trial = ended.trial
    state = current_state(trial.run(going.book))
    if state not in ENDED:
        if interrupted:
            return
        # Killed, or its machine is gone: it goes on from its checkpoint.
        if _was_lost(going, ended) and going.killed[trial.name] < going.sweep.retries:
            going.killed[trial.name] += 1
            going.say(f"{trial.name} was killed and goes on: {ended.words or ended.code}")
            waiting.insert(0, trial)
            return
        going.failed[trial.name] = ended.words or f"exit code {ended.code}"
        going.say(f"{trial.name} failed: {going.failed[trial.name]}")
        if len(going.failed) >= _FAILED_AT_FIRST and not going.succeeded:
            going.full = f"the first {len(going.failed)} trials failed"
    else:
        going.succeeded = True
        summary = summarize(trial.run(going.book))
        value = result_of(summary, going.sweep.by)
        shown = "no result" if value is None else f"{going.sweep.by} {value:.4g}"
        going.say(f"{trial.name} {state}: {shown}")
    _tell(going, trial.point)


def _was_lost(going: _Going, ended: Ended) -> bool:
    """Tell whether a trial was killed; a trainer that wrote down that it pauses was asked to."""
    if ended.code in (130, 143):
        return read_events(ended.trial.run(going.book)).last_state != "paused"
    return ended.code < 0 or ended.code == 137 or "was killed" in ended.words


def _tell(going: _Going, point: int) -> None:
    """Tell what proposes about a combination once all of its seeds have ended."""
    own = [trial for trial in going.trials if trial.point == point]
    # Of a trial that failed nothing is told: it may still be brought to its end.
    over = [current_state(t.run(going.book)) in ENDED for t in own]
    if point in going.told or not all(over):
        return
    going.told.add(point)
    values = [result_of(summarize(t.run(going.book)), going.sweep.by) for t in own]
    known = [value for value in values if value is not None]
    going.proposals.tell(own[0].proposal, sum(known) / len(known) if known else None)


def _settings_text(trial: SweepTrial) -> str:
    own = {**trial.settings, **({} if trial.seed is None else {"seed": trial.seed})}
    return " ".join(overrides_of(own))
