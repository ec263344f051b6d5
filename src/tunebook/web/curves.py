"""Curves as numbers: few enough to draw, with every spike, and only what is new where asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import orjson
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from tunebook.book.liveness import current_state
from tunebook.book.reader import NUMBERS, Look, StepColumns
from tunebook.errors import UsageError
from tunebook.pages.downsample import chosen_points
from tunebook.pages.verdicts import level_of, verdict_text
from tunebook.web.desk import desk_of
from tunebook.web.shelf import Shelf

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

router = APIRouter()

X_AXES = ("step", "epoch", "examples", "tokens", "minutes")
VALIDATION = "val_loss"
SPEED = "target_tokens_per_second"
Y_COLUMNS = (*(n for n in NUMBERS if n not in ("step", "loss_sum")), SPEED)
MOST_RUNS = 20
BUCKETS = 600


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which curves of a run are asked for: `y` columns over `x`, between `first` and `last` of x.

    `since` is a step: only what comes after it, and a validation at it. At most two points for each
    of `buckets`.
    """

    x: str = "step"
    y: Sequence[str] = ("loss", VALIDATION)
    first: float | None = None
    last: float | None = None
    since: int | None = None
    buckets: int = BUCKETS
    superseded: bool = False


@router.get("/curves.json")
def curves(
    request: Request,
    run: Annotated[list[str], Query(max_length=MOST_RUNS)],
    y: Annotated[list[str] | None, Query()] = None,
    x: str = "step",
    first: float | None = None,
    last: float | None = None,
    since: int | None = None,
    buckets: Annotated[int, Query(ge=1, le=5000)] = BUCKETS,
    superseded: bool = False,
) -> Response:
    """Give the curves of runs; `version` and `generation` tell whether a run was added to.

    Of another generation than before, steps were taken back, and all is to be read again.
    """
    wanted = Wanted(x, tuple(y or Wanted().y), first, last, since, buckets, superseded)
    for name, known in ((x, X_AXES), *((one, (*Y_COLUMNS, VALIDATION)) for one in wanted.y)):
        if name not in known:
            raise UsageError(f"there is no curve of `{name}`; there is {', '.join(known)}")
    shelf = desk_of(request).shelf
    found = [_run_of(shelf, name, wanted) for name in run]
    return Response(
        orjson.dumps({"runs": found}, option=orjson.OPT_SERIALIZE_NUMPY),
        media_type="application/json",
    )


def _run_of(shelf: Shelf, name: str, wanted: Wanted) -> dict[str, Any]:
    reader = shelf.reader(name)
    look = reader.look()
    state = current_state(reader.run, look.events)
    return {"name": name, "state": state, **curves_of(look, wanted)}


def curves_of(look: Look, wanted: Wanted) -> dict[str, Any]:
    """Give the curves of one run as plain lists.

    `series` maps each y to `{x, y, broken}`, broken being where it is not finite; `flags` are the
    verdicts at their place on the axis; `superseded` has the training losses that later attempts
    took back.
    """
    axis = axis_of(look.steps, wanted.x)
    found: dict[str, Any] = {
        "version": look.version,
        "generation": look.generation,
        "last_step": int(look.steps["step"][-1]) if len(look.steps) else None,
        "series": {name: _series(look, name, axis, wanted) for name in wanted.y},
        "flags": _flags(look, axis),
    }
    if wanted.superseded and wanted.x == "step":
        old = look.superseded
        found["superseded"] = [
            _chosen(part["step"], part["loss"], wanted)
            for attempt in np.unique(old["attempt"])
            if len(part := old.where(old["attempt"] == attempt))
        ]
    return found


def axis_of(steps: StepColumns, x: str) -> Numbers:
    """Give the place of each step on an axis; examples, tokens and minutes are counted up."""
    if x in ("step", "epoch"):
        return steps[x]
    counted = steps["seconds"] / 60 if x == "minutes" else steps[x]
    total: Numbers = np.nancumsum(counted)
    return total


def at_steps(steps: StepColumns, axis: Numbers, wanted: Sequence[int]) -> Numbers:
    """Find steps on an axis: 0 before the first step, and where the step before is if unknown."""
    if len(steps) == 0:
        return np.zeros(len(wanted))
    at = np.searchsorted(steps["step"], np.array(wanted), side="right") - 1
    placed: Numbers = np.where(at < 0, 0.0, axis[np.maximum(at, 0)])
    return placed


def _series(look: Look, name: str, axis: Numbers, wanted: Wanted) -> dict[str, Any]:
    if name == VALIDATION:
        taken = look.events.validations
        steps = [v.step for v in taken]
        x = np.array(steps, float) if wanted.x == "step" else at_steps(look.steps, axis, steps)
        y = np.array([v.loss for v in taken], float)
        bands = [v.interval or (None, None) for v in taken]
        # A step is validated after it was recorded, and before the next one is.
        kept = _kept(x, np.array(steps, float) + 1, wanted)
        return {
            "x": x[kept],
            "y": _finite(y[kept]),
            "low": [bands[i][0] for i in np.flatnonzero(kept)],
            "high": [bands[i][1] for i in np.flatnonzero(kept)],
            "broken": x[kept & ~np.isfinite(y)],
        }
    kept = _kept(axis, look.steps["step"], wanted)
    y = _column(look.steps, name)[kept]
    # NaN is unknown, but for the loss, which every step has.
    broken = ~np.isfinite(y) if name == "loss" else np.isinf(y)
    return {**_chosen(axis[kept], y, wanted), "broken": axis[kept][broken][: wanted.buckets]}


def _column(steps: StepColumns, name: str) -> Numbers:
    if name != SPEED:
        return steps[name]
    took = np.where(steps["seconds"] > 0, steps["seconds"], np.nan)
    speed: Numbers = steps["target_tokens"] / took
    return speed


def _kept(x: Numbers, step: Numbers, wanted: Wanted) -> NDArray[np.bool_]:
    kept = np.ones(len(x), dtype=bool)
    if wanted.first is not None:
        kept &= x >= wanted.first
    if wanted.last is not None:
        kept &= x <= wanted.last
    if wanted.since is not None:
        kept &= step > wanted.since
    return kept


def _chosen(x: Numbers, y: Numbers, wanted: Wanted) -> dict[str, Any]:
    at = chosen_points(y, wanted.buckets)
    return {"x": x[at], "y": y[at]}


def _finite(y: Numbers) -> list[float | None]:
    return [value if np.isfinite(value) else None for value in y.tolist()]


def _flags(look: Look, axis: Numbers) -> list[dict[str, Any]]:
    flagged = [v for v in look.events.verdicts if v.step is not None]
    first = at_steps(look.steps, axis, [v.step or 0 for v in flagged])
    last = at_steps(look.steps, axis, [v.last_step or v.step or 0 for v in flagged])
    return [
        {
            "kind": verdict.kind,
            "confidence": verdict.confidence,
            "level": level_of(verdict),
            "first": float(a),
            "last": float(b),
            "text": verdict_text(verdict),
        }
        for verdict, a, b in zip(flagged, first, last, strict=True)
    ]
