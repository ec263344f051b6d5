"""What bounds a run that is long enough to ask: its ceilings, and one step kernel by kernel."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Literal

from tunebook.book.plans import read_plan
from tunebook.plan.ceiling import copy_bytes_per_second, matrix_product_flops
from tunebook.plan.devices import parse_device
from tunebook.records import StepRecord
from tunebook.step.peak import reset_peak
from tunebook.train.profile import Watched
from tunebook.workflows.before import Run, precision_of

LEAST_SECONDS = 60.0
"""Planned seconds below which a run is not looked at unasked: it would take too much of them."""
# Of the steps of an attempt: in the first ones kernels are loaded and pages faulted.
_LOOKED_AT = 3


def is_looked_at(stated: bool | Literal["auto"], seconds: object, left_fraction: float) -> bool:
    """Tell whether a run is looked at: as stated, else when enough of it is planned to be left."""
    if stated != "auto":
        return stated
    return not isinstance(seconds, (int, float)) or seconds * left_fraction >= LEAST_SECONDS


class Meter:
    """Looks at one attempt of a run, once; nothing that breaks here ends the run."""

    def __init__(self, run: Run, done: int) -> None:
        plan, total = read_plan(run.run), run.training.horizon.total_steps
        stated = run.recipe.evaluate.profile
        wanted = is_looked_at(stated, plan.get("seconds"), (total - done) / max(total, 1))
        self._run = run
        self._due = min(done + _LOOKED_AT, total) if wanted else None
        told = None if stated is False else wanted  # False says that it was too short
        facts = {"operations": plan.get("operations") or None, "profiled": told}
        run.events.write("facts", facts)
        if wanted:
            self._measure_ceilings()

    def take(self, step: int, take: Callable[[], StepRecord | None]) -> StepRecord | None:
        """Take a step, the one that is due inside a profiler."""
        if step != self._due:
            return take()
        self._due = None
        watched = Watched(self._run.training.loaded.device)
        record = watched.take(take)
        found = None if record is None else watched.profile_of(record)
        if found is not None:
            self._run.events.write("profile", found)
        else:
            print(f"step {step} was not profiled: {watched.reason}", file=sys.stderr)
        return record

    def _measure_ceilings(self) -> None:
        """Measure what the device can do."""
        run, device = self._run, self._run.training.loaded.device
        precision, n = precision_of(run), run.team.size
        try:
            facts: dict[str, object] = {
                "matrix_product_flops": matrix_product_flops(precision, device) * n,
                "copy_bytes_per_second": copy_bytes_per_second(device),
            }
        except (RuntimeError, MemoryError) as error:  # most of all for want of memory
            print(f"ceilings not measured: {type(error).__name__}", file=sys.stderr)
            return
        # What was measured with must not pass for the run's own peak.
        reset_peak(device)
        if device.type == "cuda" and (peak := parse_device("cuda").tflops.get(precision)):
            facts["peak_flops"] = peak * 1e12 * n
        run.events.write("facts", facts)
