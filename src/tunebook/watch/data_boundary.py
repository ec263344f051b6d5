"""A mixture of sources that changes in the middle of a run."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tunebook.records import Verdict
from tunebook.units import format_number, format_percent
from tunebook.watch.robust import level_shifts
from tunebook.watch.run_log import RunLog

_WIDTH = 10
_MOVED = 0.2  # of all tokens: half the sum of changes of the sources' shares
_Z = 5.0
_LOSS_Z = 3.0
_SHARE_FLOOR = 0.02


def find_data_boundary(log: RunLog) -> Verdict | None:
    """Find where the mixture of sources changes for good, and what it does to the loss.

    At least a fifth of the tokens must come from other sources than in the 10 steps before, 5
    standard errors of a source's share, which the source tags of the batches say. That the loss
    falls where an epoch ends is no fault and not looked for.
    """
    names = sorted({name for s in log.steps for name in s.sources})
    if len(names) < 2:
        return None
    shares = _shares(log, names)
    shifts, z = _shifts(shares, float(np.median(np.diff(log.examples.first))))
    moved = np.abs(shifts).sum(axis=1) / 2
    hit = np.flatnonzero((moved > _MOVED) & (z > _Z))
    if not len(hit):
        return None
    at_once = np.abs(np.diff(shares, axis=0, prepend=shares[:1])).sum(axis=1)
    near = np.arange(max(int(hit[0]) - _WIDTH, 1), min(int(hit[0]) + _WIDTH, len(shares)))
    place = int(near[np.nanargmax(np.where(moved[near] > _MOVED / 2, at_once[near], -1.0))])
    if not _stays(shares, place):
        return None
    gained, lost = int(np.argmax(shifts[place])), int(np.argmin(shifts[place]))
    step = int(log.step[place])
    loss = level_shifts(log.surprise, _WIDTH, log.surprise_floor)
    change = float(loss.shift[place])
    effect = f"changes by {format_number(change)} nats at the same weights"
    if not abs(loss.z[place]) > _LOSS_Z:
        effect = "shows nothing of it"
    return Verdict(
        kind="data_boundary",
        step=step,
        last_step=step,
        cause=f"at step {step} {format_percent(moved[place])} of the tokens go over from source "
        f"{names[lost]} to {names[gained]}, and the loss {effect}",
        confidence="certain",
        evidence={
            "from": names[lost],
            "to": names[gained],
            "share_moved": float(moved[place]),
            "loss_change": change,
            "z_of_loss": float(loss.z[place]),
            "z_of_share": float(z[int(hit[0])]),
        },
        next_action="mix the sources over the whole run, which tunebook does unless they are "
        "trained one after the other",
    )


def _shifts(
    shares: NDArray[np.float64], rows: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compare shares over the steps before and after each place; the largest z of a source.

    The standard error is that of rows drawn at random: `rows` of them a step.
    """
    sums = np.cumsum(np.nan_to_num(shares), axis=0)
    sums = np.concatenate((np.zeros((1, shares.shape[1])), sums))
    shifts = np.zeros_like(shares)
    z = np.zeros(len(shares))
    places = np.arange(_WIDTH, len(shares) - _WIDTH + 1)
    if len(places):
        before = (sums[places] - sums[places - _WIDTH]) / _WIDTH
        after = (sums[places + _WIDTH] - sums[places]) / _WIDTH
        pooled = (before + after) / 2
        error = np.sqrt(pooled * (1 - pooled) * 2 / (_WIDTH * max(rows, 1.0)))
        shifts[places] = after - before
        z[places] = np.max(np.abs(after - before) / np.maximum(error, _SHARE_FLOOR), axis=1)
    return shifts, z


def _stays(shares: NDArray[np.float64], place: int) -> bool:
    """Tell a new mixture from the luck of some batches, by all steps before and after."""
    change = np.nanmean(shares[place:], axis=0) - np.nanmean(shares[:place], axis=0)
    return bool(np.abs(change).sum() / 2 > _MOVED / 2)


def _shares(log: RunLog, names: list[str]) -> NDArray[np.float64]:
    tokens = np.array([[s.sources.get(name, 0) for name in names] for s in log.steps], dtype=float)
    totals = tokens.sum(axis=1, keepdims=True)
    shares: NDArray[np.float64] = tokens / np.where(totals > 0, totals, np.nan)
    return shares
