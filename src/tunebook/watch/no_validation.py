"""Nothing was held out."""

from __future__ import annotations

from tunebook.records import Verdict
from tunebook.watch.run_log import RunLog


def find_no_validation(log: RunLog) -> Verdict | None:
    """Say that no validation was logged by the end, so that overfitting cannot be judged."""
    total = log.facts.total_steps
    ended = total is None or (len(log) > 0 and log.steps[-1].step >= total)
    if log.validations or not len(log) or not ended:
        return None
    return Verdict(
        kind="no_validation",
        step=None,
        last_step=None,
        cause="no held-out loss was measured, so overfitting cannot be judged",
        confidence="certain",
        evidence={"steps": len(log)},
        next_action="hold rows out: validation.fraction=0.05",
        changes=("validation.fraction=0.05",),
    )
