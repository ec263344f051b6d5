"""Verdicts while a run trains: looked for again and again, confirmed or withdrawn."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from tunebook.records import Diagnosis, StepRecord, ValidationRecord, Verdict
from tunebook.watch.diagnose import DETECTED, coverage, diagnose
from tunebook.watch.run_log import RunFacts, RunLog

CONFIRMED_AFTER = 8
"""Steps after which a verdict that is still found is no longer amber."""
KEPT_STEPS = 100_000
KEPT_EXAMPLES = 50_000
"""Older steps keep their numbers and lose their examples, then go: memory stays bounded."""
KEPT_DOCUMENTS = 32
"""Validations that keep the losses of their documents, up to 1000 each."""
SHARE, SHARE_AFTER_VALIDATION = 0.01, 0.05
"""Of the time that all looks together may take; the first, which loads what they need, is free."""
_FEWEST_STEPS = 10
_FEWEST_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class _Standing:
    verdict: Verdict
    since: int


class Looks:
    """The log of a run as it grows, and the verdicts that stand after the last look at it."""

    def __init__(
        self,
        facts: RunFacts,
        steps: Sequence[StepRecord] = (),
        validations: Sequence[ValidationRecord] = (),
        known: Sequence[Verdict] = (),
    ) -> None:
        self._facts = facts
        self._old: deque[StepRecord] = deque(maxlen=KEPT_STEPS)
        self._recent: deque[StepRecord] = deque()
        self._examples = 0
        self._validations: list[ValidationRecord] = []
        self._told = self._looked = False
        self._named_since: dict[str, int] = {}
        self._spent = self._last_seconds = 0.0
        self._last_step = steps[-1].step if steps else 0
        self._standing = [_Standing(v, _first(v)) for v in known if v.kind != "no_fault_found"]
        for step in steps:
            self.add(step)
        for validation in validations:
            self.add_validation(validation)

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """What stands now."""
        return tuple(one.verdict for one in self._standing)

    def add(self, record: StepRecord) -> None:
        """Take a step in."""
        self._recent.append(record)
        self._examples += len(record.examples)
        while self._examples > KEPT_EXAMPLES and len(self._recent) > 1:
            old = self._recent.popleft()
            self._examples -= len(old.examples)
            self._old.append(replace(old, examples=()))

    def add_validation(self, record: ValidationRecord) -> None:
        """Take a validation in."""
        self._validations.append(record)
        detailed = [i for i, v in enumerate(self._validations) if v.per_document]
        if len(detailed) <= KEPT_DOCUMENTS:
            return
        # The base, the best and the last three are tested; of the others every second one stays.
        losses = [v.loss if math.isfinite(v.loss) else math.inf for v in self._validations]
        best = min(detailed, key=losses.__getitem__)
        for i in detailed[1:-3:2]:
            if i != best:
                self._validations[i] = replace(self._validations[i], per_document=())

    def due(self, step: int, seconds: float, *, validated: bool) -> bool:
        """Tell whether to look after a step, `seconds` after training began.

        After a validation, else at most once in 10 steps and in a second, and never while looks
        have taken more than their share of the time.
        """
        if self._spent > (SHARE_AFTER_VALIDATION if validated else SHARE) * seconds:
            return False
        rare = seconds - self._last_seconds >= _FEWEST_SECONDS
        return validated or (rare and step - self._last_step >= _FEWEST_STEPS)

    def spend(self, step: int, began: float, ended: float) -> None:
        """Note when a look was made, and how long it took."""
        if self._looked:
            self._spent += ended - began
        self._looked = True
        self._last_step, self._last_seconds = step, ended

    def tell(self, verdict: Verdict) -> Diagnosis:
        """Let a verdict stand that the log alone does not show; the first of its kind does."""
        step = verdict.step or 0
        if all(one.verdict.kind != verdict.kind for one in self._standing):
            self._standing.append(_Standing(verdict, step))
        return Diagnosis(step, self.verdicts, (), {}, final=False)

    def look(self) -> Diagnosis | None:
        """Diagnose the log so far; None when that was known already."""
        log = RunLog([*self._old, *self._recent], self._validations, self._facts)
        step = log.steps[-1].step
        found = [v for v in diagnose(log) if v.kind != "no_fault_found"]
        names = {name for verdict in found for name in verdict.names}
        self._named_since = {name: self._named_since.get(name, step) for name in names}
        standing = [one for one in self._standing if self._cannot_be_found_again(one.verdict)]
        standing = [one for one in standing if not _among(one.verdict, found)]
        standing += [self._stand(verdict, step) for verdict in found]
        before, self._standing = self.verdicts, standing
        told, self._told = self._told, True
        if (
            told
            and len(before) == len(standing)
            and all(
                any(old.meets(new) and old.confidence == new.confidence for old in before)
                for new in self.verdicts
            )
        ):
            return None
        return Diagnosis(step, self.verdicts, *coverage(log), final=False)

    def ends(self, kinds: Collection[str]) -> str | None:
        """Give a reason to stop where one of some kinds is confirmed, be it as an effect.

        An effect is told with its cause; both must have been found for as long as a verdict must.
        """
        step = self._recent[-1].step
        for verdict in self.verdicts:
            for name in verdict.names:
                sure = verdict.confidence == "certain" and name == verdict.kind
                lasting = step - self._named_since.get(name, step) >= CONFIRMED_AFTER
                if name in kinds and verdict.confidence != "amber" and (sure or lasting):
                    after = "" if name == verdict.kind else f" after {verdict.kind}"
                    return f"{name}{after}: {verdict.cause}; {verdict.next_action}"
        return None

    def _stand(self, verdict: Verdict, step: int) -> _Standing:
        known = [one for one in self._standing if one.verdict.meets(verdict)]
        since = min((one.since for one in known), default=step)
        if verdict.confidence != "certain" and step - since < CONFIRMED_AFTER:
            verdict = replace(verdict, confidence="amber")
        return _Standing(verdict, since)

    def _cannot_be_found_again(self, verdict: Verdict) -> bool:
        last = verdict.last_step if verdict.last_step is not None else verdict.step
        beyond = last is not None and bool(self._old) and last < self._recent[0].step
        return verdict.kind not in DETECTED or beyond


def _first(known: Verdict) -> int:
    # What was confirmed before a resume is not amber again.
    return (known.step or 0) if known.confidence == "amber" else -CONFIRMED_AFTER


def _among(verdict: Verdict, others: Sequence[Verdict]) -> bool:
    return any(verdict.meets(other) for other in others)
