"""Which combination of settings a sweep tries next."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Sequence
from typing import Any, Protocol

from tunebook.book.atomic import storage_errors
from tunebook.book.sweeps import SweepFolder, SweepTrial
from tunebook.book.writing import open_to_write
from tunebook.errors import BookError, UsageError, first_line
from tunebook.recipe.sweep import LISTED, Range, Sweep

# What optuna is told of a trial without a finite result, so that it looks elsewhere: it ranks
# results, and takes no infinite one.
_WORST = 1e30


class Proposals(Protocol):
    """Gives combinations one by one, and learns what came of them."""

    def ask(self, point: int) -> tuple[dict[str, Any], int | None]:
        """Give combination `point`, counted from 1, with the number it is told about by."""

    def tell(self, proposal: int | None, result: float | None) -> None:
        """Take in the mean result of a combination that has ended; None where it has none."""


def proposals_of(sweep: Sweep, folder: SweepFolder, begun: Sequence[SweepTrial]) -> Proposals:
    """Make what proposes, knowing the trials that were begun before.

    Raises UsageError where optuna is needed and not installed.
    """
    return _Grid(sweep) if sweep.search in LISTED else _Study(sweep, folder, begun)


class _Grid:
    """Every combination, in the order of the file."""

    def __init__(self, sweep: Sweep) -> None:
        self._points = sweep.grid(sweep.n_points)

    def ask(self, point: int) -> tuple[dict[str, Any], int | None]:
        return self._points[point - 1], None

    def tell(self, proposal: int | None, result: float | None) -> None:
        """Learn nothing: a grid is what it is."""


class _Study:
    """A study of optuna, kept in a file of the sweep's folder that is only added to."""

    def __init__(self, sweep: Sweep, folder: SweepFolder, begun: Sequence[SweepTrial]) -> None:
        try:
            import optuna
            from optuna.storages.journal import JournalFileBackend
        except ImportError:
            raise UsageError(
                f"`search: {sweep.search}` needs optuna; pip install 'tunebook[sweep]', or say "
                "search: grid"
            ) from None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._optuna, self._sweep = optuna, sweep
        # optuna would write through a link, and wait for a pipe.
        with storage_errors(f"write {folder.study}", folder.path):
            open_to_write(folder.book, folder.study, "append").close()
        try:
            storage = optuna.storages.JournalStorage(JournalFileBackend(str(folder.study)))
            self._study = optuna.create_study(
                storage=storage, study_name=sweep.name, direction="minimize", load_if_exists=True
            )
            n_proposed = len(self._study.trials)
        except Exception as error:  # whatever optuna makes of a file that was damaged
            raise BookError(
                f"{folder.study} cannot be read ({first_line(error)}); put back what stood there, "
                "or give the sweep another name"
            ) from None
        lost = [t.name for t in begun if t.proposal is not None and t.proposal >= n_proposed]
        if lost:
            raise BookError(
                f"{folder.study} does not know of {lost[0]}, which it proposed; put back what "
                "stood there, or give the sweep another name"
            )
        self._space = {key: self._distribution(values) for key, values in sweep.over.items()}
        known = {trial.proposal for trial in begun}
        for trial in self._study.get_trials(states=[optuna.trial.TrialState.RUNNING]):
            if trial.number not in known:  # proposed, and the process died before it was begun
                self._study.tell(trial.number, state=optuna.trial.TrialState.FAIL)

    def _distribution(self, values: Sequence[Any] | Range) -> Any:
        kinds = self._optuna.distributions
        if not isinstance(values, Range):
            # By number: a value may be anything that a run file can hold.
            return kinds.CategoricalDistribution(list(range(len(values))))
        kind = kinds.IntDistribution if values.whole else kinds.FloatDistribution
        return kind(values.low, values.high, log=values.log)

    def ask(self, point: int) -> tuple[dict[str, Any], int | None]:
        # Drawn anew for each: a sweep that goes on must not draw what it drew in the beginning.
        digest = hashlib.blake2b(f"{self._sweep.seed} {point}".encode(), digest_size=4).digest()
        seed = int.from_bytes(digest, "big")
        samplers = self._optuna.samplers
        if self._sweep.search == "tpe":
            with warnings.catch_warnings():
                # That it may change one day is no news for whoever waits for a run.
                warnings.simplefilter("ignore", self._optuna.exceptions.ExperimentalWarning)
                self._study.sampler = samplers.TPESampler(seed=seed, constant_liar=True)
        else:
            self._study.sampler = samplers.RandomSampler(seed=seed)
        trial = self._study.ask(self._space)
        return {key: self._value(key, drawn) for key, drawn in trial.params.items()}, trial.number

    def _value(self, key: str, drawn: Any) -> Any:
        values = self._sweep.over[key]
        # Four digits of a drawn number are as good as sixteen, and can be read.
        return _rounded(drawn) if isinstance(values, Range) else values[drawn]

    def tell(self, proposal: int | None, result: float | None) -> None:
        state = self._optuna.trial.TrialState.RUNNING
        if proposal is None or self._study.trials[proposal].state != state:
            return
        known = result is not None and math.isfinite(result)
        self._study.tell(proposal, result if known else _WORST)


def _rounded(drawn: Any) -> Any:
    return float(f"{drawn:.4g}") if isinstance(drawn, float) else drawn
