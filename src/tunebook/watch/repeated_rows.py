"""Rows that are trained again in the order in which they just were."""

from __future__ import annotations

import numpy as np

from tunebook.records import Verdict
from tunebook.watch.run_log import RunLog

_FEWEST_IN_ORDER = 8
_SHOWN_IDS = 20


def find_repeated_rows(log: RunLog) -> Verdict | None:
    """Find a stretch of rows that is trained a second time long before an epoch is over.

    Eight rows or more must follow each other as they did so many rows before: in shuffled order
    that does not happen by chance. Packed rows hold their examples in one order in every epoch, so
    that of those as many whole rows are asked for. Passes over the whole data in one order are no
    fault.
    """
    codes, examples = log.examples.code, log.examples
    lag = _rows_since_last(codes)
    per_epoch = _rows_per_epoch(log)
    # Only within an epoch: a whole pass back is how often a row should come.
    again = (lag > 0) & (lag < 0.9 * per_epoch)
    same = np.concatenate(([False], (lag[1:] == lag[:-1]) & again[1:] & again[:-1]))
    stretch = _longest_run(same)
    if stretch is None:
        return None
    start, stop = stretch[0] - 1, stretch[1]
    if stop - start < min(_FEWEST_IN_ORDER * _examples_per_row(log), per_epoch // 2):
        return None
    first, last = (int(log.step[examples.place[at]]) for at in (start, stop - 1))
    source = int(log.step[examples.place[start - int(lag[start])]])
    ids = [examples.id_at(at) for at in range(start, min(stop, start + _SHOWN_IDS))]
    return Verdict(
        kind="repeated_rows",
        step=first,
        last_step=last,
        cause=f"steps {first} to {last} train {stop - start} rows once more, in the order of step "
        f"{source} on, before the others had their turn",
        confidence="certain",
        evidence={
            "rows": stop - start,
            "first_trained_at": source,
            "rows_per_epoch": int(per_epoch),
            "examples": ids,
            "examples_left_out": max(stop - start - _SHOWN_IDS, 0),
        },
        next_action="look for a shard that is listed or read twice",
    )


def _rows_since_last(codes: np.ndarray) -> np.ndarray:
    """Give how many rows ago each row was trained before; 0 for its first time."""
    order = np.argsort(codes, kind="stable")
    same = codes[order][1:] == codes[order][:-1]
    lag = np.zeros(len(codes), dtype=np.int64)
    lag[order[1:]] = np.where(same, order[1:] - order[:-1], 0)
    return lag


def _examples_per_row(log: RunLog) -> float:
    batch = log.facts.effective_batch_size
    most = float(np.quantile(np.diff(log.examples.first), 0.9))
    if batch is not None:
        return max(most / batch, 1.0)
    # Unknown: examples that are together a second time may be of one packed row, so ask for steps.
    return max(most / _FEWEST_IN_ORDER, 1.0)


def _rows_per_epoch(log: RunLog) -> float:
    examples = log.examples
    if log.facts.steps_per_epoch is not None and len(log):
        return log.facts.steps_per_epoch * float(np.median(np.diff(examples.first)))
    epochs = log.epoch[np.isfinite(log.epoch)]
    return len(examples) / float(epochs[-1]) if len(epochs) and epochs[-1] > 0 else np.inf


def _longest_run(flags: np.ndarray) -> tuple[int, int] | None:
    """Give first and past-the-last place of the longest stretch of True."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], flags.astype(np.int8), [0]))))
    if not len(edges):
        return None
    starts, stops = edges[::2], edges[1::2]
    best = int(np.argmax(stops - starts))
    return int(starts[best]), int(stops[best])
