"""Curves as numbers: few enough to draw, with every spike, and only what is new where asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import orjson
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from tunebook.book.diagnosis import whole_diagnosis
from tunebook.book.liveness import current_state
from tunebook.book.reader import NUMBERS, Look, StepColumns
from tunebook.errors import BookError, UsageError
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
_FURTHEST = 2**53  # beyond, floats leave out whole numbers


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
    since: Annotated[int | None, Query(ge=0, le=_FURTHEST)] = None,
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
    diagnosis = whole_diagnosis(reader.run, look.events.diagnosis)
    look = replace(look, events=replace(look.events, diagnosis=diagnosis))
    try:
        return {"name": name, "state": state, **curves_of(look, wanted)}
    except (TypeError, ValueError) as error:
        raise BookError(
            f"run {name}: an event has something else where a number should be ({error}); restore "
            f"the files in {reader.run.events}"
        ) from error


def curves_of(look: Look, wanted: Wanted) -> dict[str, Any]:
    """Give the curves of one run as plain lists.

    `series` maps each y to `{x, y, broken}`, broken being where it is not finite; `flags` are the
    verdicts at their place on the axis; `superseded` has the training losses that later attempts
    took back. What has no known place on the axis is left out; `unplaced` counts such steps.
    """
    axis = axis_of(look.steps, wanted.x)
    found: dict[str, Any] = {
        "version": look.version,
        "generation": look.generation,
        "last_step": int(look.steps["step"][-1]) if len(look.steps) else None,
        "unplaced": int(np.isnan(axis).sum()),
        "series": {name: _series(look, name, axis, wanted) for name in wanted.y},
        "flags": _flags(look, axis),
    }
    # Who has the rest has these: with more of them, the generation is another.
    if wanted.superseded and wanted.x == "step" and wanted.since is None:
        old = look.superseded.where(_kept(look.superseded["step"], look.superseded["step"], wanted))
        parts = [old.where(old["attempt"] == attempt) for attempt in np.unique(old["attempt"])]
        found["superseded"] = [_chosen(one["step"], one["loss"], wanted) for one in parts]
    return found


def axis_of(steps: StepColumns, x: str) -> Numbers:
    """Give the place of each step on an axis; examples, tokens and minutes are counted up.

    NaN where it is unknown: also after a step of which it is not known what it added.
    """
    if x in ("step", "epoch"):
        return steps[x]
    counted = steps["seconds"] / 60 if x == "minutes" else steps[x]
    total: Numbers = np.cumsum(counted)
    return total


def at_steps(steps: StepColumns, axis: Numbers, wanted: Sequence[int] | Numbers) -> Numbers:
    """Find steps on an axis: 0 before the first step, and one not recorded at the one before."""
    if len(steps) == 0:
        return np.zeros(len(wanted))
    at = np.searchsorted(steps["step"], np.array(wanted, float), side="right") - 1
    start = 0.0 if np.isfinite(axis[0]) else np.nan
    placed: Numbers = np.where(at < 0, start, axis[np.maximum(at, 0)])
    return placed


def _series(look: Look, name: str, axis: Numbers, wanted: Wanted) -> dict[str, Any]:
    if name == VALIDATION:
        return _validations(look, axis, wanted)
    kept = _kept(axis, look.steps["step"], wanted)
    y = _column(look.steps, name)[kept]
    # NaN is unknown, but for the loss, which every step has.
    broken = ~np.isfinite(y) if name == "loss" else np.isinf(y)
    return {**_chosen(axis[kept], y, wanted), "broken": axis[kept][broken][: wanted.buckets]}


def _validations(look: Look, axis: Numbers, wanted: Wanted) -> dict[str, Any]:
    taken = look.events.validations
    step = np.array([v.step for v in taken], float)
    x = step if wanted.x == "step" else at_steps(look.steps, axis, step)
    y = np.array([v.loss for v in taken], float)
    bands = np.array([v.interval or (np.nan, np.nan) for v in taken], float).reshape(-1, 2)
    # A step is validated after it was recorded, and before the next one is.
    kept = np.flatnonzero(_kept(x, step + 1, wanted))
    broken = x[kept[~np.isfinite(y[kept])]][: wanted.buckets]
    at = kept[chosen_points(y[kept], wanted.buckets)]
    low, high = bands[at, 0], bands[at, 1]
    return {"step": step[at], "x": x[at], "y": y[at], "low": low, "high": high, "broken": broken}


def _column(steps: StepColumns, name: str) -> Numbers:
    if name != SPEED:
        return steps[name]
    took = np.where(steps["seconds"] > 0, steps["seconds"], np.nan)
    speed: Numbers = steps["target_tokens"] / took
    return speed


def _kept(x: Numbers, step: Numbers, wanted: Wanted) -> NDArray[np.bool_]:
    kept = np.isfinite(x)
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
            "last": float(b if np.isfinite(b) else a),
            "text": verdict_text(verdict),
        }
        for verdict, a, b in zip(flagged, first, last, strict=True)
        if np.isfinite(a)
    ]
