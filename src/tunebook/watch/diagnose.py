"""All detectors over the log of a run, one root cause per incident."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tunebook.kinds import FAULTS
from tunebook.records import Verdict
from tunebook.watch.frozen_weights import find_frozen_weights
from tunebook.watch.incidents import root_causes
from tunebook.watch.non_finite import find_non_finite
from tunebook.watch.run_log import RunLog


@dataclass(frozen=True, slots=True)
class Detector:
    """What finds verdicts of some kinds in a log that has all that it `needs` (`RunLog.has`)."""

    kinds: tuple[str, ...]
    needs: tuple[str, ...]
    find: Callable[[RunLog], Iterable[Verdict]]


def _one(find: Callable[[RunLog], Verdict | None]) -> Callable[[RunLog], Iterable[Verdict]]:
    def found(log: RunLog) -> Iterable[Verdict]:
        verdict = find(log)
        return () if verdict is None else (verdict,)

    return found


DETECTORS: tuple[Detector, ...] = (
    Detector(("non_finite",), (), _one(lambda log: find_non_finite(log.steps))),
    Detector(
        ("weights_frozen_by_precision",),
        ("changed_fraction",),
        _one(lambda log: find_frozen_weights(log.steps)),
    ),
)


def diagnose(log: RunLog, detectors: Sequence[Detector] = DETECTORS) -> tuple[Verdict, ...]:
    """Give every verdict about a run, by step; `no_fault_found` where none of them is a fault."""
    looked = [d for d in detectors if all(log.has(need) for need in d.needs)]
    found = root_causes(log, [verdict for d in looked for verdict in d.find(log)])
    if log.steps and not any(verdict.kind in FAULTS for verdict in found):
        found.append(_no_fault_found(log, looked, detectors))
    return tuple(sorted(found, key=lambda v: (v.step is None, v.step or 0)))


def _no_fault_found(
    log: RunLog, looked: Sequence[Detector], detectors: Sequence[Detector]
) -> Verdict:
    blind = {
        ", ".join(d.kinds): [need for need in d.needs if not log.has(need)]
        for d in detectors
        if d not in looked
    }
    not_looked_for = f"; not looked for: {', '.join(blind)}" if blind else ""
    return Verdict(
        kind="no_fault_found",
        step=None,
        last_step=None,
        cause=f"{len(looked)} detectors looked at {len(log)} steps{not_looked_for}",
        confidence="likely",
        evidence={
            "steps": len(log),
            "validations": len(log.validations),
            "looked_for": [kind for d in looked for kind in d.kinds],
            "not_looked_for": {k: f"the log has no {', '.join(v)}" for k, v in blind.items()},
        },
        next_action="compare it with the runs before it",
    )
