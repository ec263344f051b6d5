"""Logs with a row per logged step: of the Hugging Face Trainer, W&B, Trackio, TensorBoard, CSV."""

from __future__ import annotations

import csv
import io
import json
import re
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunebook.databases import computed_columns, open_untrusted
from tunebook.errors import DataError, UsageError
from tunebook.imports.curves import choose_columns, left_over, one_curve, read_curve
from tunebook.imports.found import Found

_HF_SETTINGS = {
    "learning_rate": "train.learning_rate",
    "weight_decay": "train.weight_decay",
    "max_grad_norm": "train.max_grad_norm",
    "warmup_steps": "train.warmup_steps",
    "num_train_epochs": "train.epochs",
    "per_device_train_batch_size": "train.micro_batch_size",
    "train_batch_size": "train.micro_batch_size",
    "lr_scheduler_type": "train.schedule",
    "seed": "seed",
}
"""Arguments of the Trainer that are settings of a recipe."""

_MOST_ROWS = 2_000_000
_MOST_OPERATIONS = 500_000_000  # of SQLite's machine: a minute or less

Overrides = Mapping[str, str]


def read_json(text: str, name: str, overrides: Overrides) -> Found:
    """Read `trainer_state.json`, or a list of rows as `run.history()` of W&B gives it."""
    whole = json.loads(text)
    if isinstance(whole, dict) and isinstance(whole.get("log_history"), list):
        return _trainer_state(whole, name, overrides)
    if isinstance(whole, list) and whole and all(isinstance(row, dict) for row in whole):
        return one_curve("JSON rows", name, whole, overrides)
    raise DataError("it is JSON, and neither has a log_history nor is a list of rows")


def _trainer_state(state: Mapping[str, Any], name: str, overrides: Overrides) -> Found:
    rows = [row for row in state["log_history"] if isinstance(row, dict)]
    reported: dict[str, Any] = {"steps": state.get("max_steps") or None}
    best = state.get("best_global_step")
    if best is None:
        found = re.search(r"checkpoint-(\d{1,15})$", str(state.get("best_model_checkpoint") or ""))
        best = int(found.group(1)) if found else None
    reported["best_step"] = best
    for row in rows:
        if "train_runtime" in row:
            reported["seconds"] = row["train_runtime"]
    # The last row is of the whole run: its train_loss is no step's.
    rows = [row for row in rows if "train_runtime" not in row]
    return one_curve(
        "Hugging Face trainer_state.json",
        name,
        rows,
        overrides,
        reported={k: v for k, v in reported.items() if v is not None},
        settings=_settings(state),
    )


def _settings(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: arguments[name]
        for name, key in _HF_SETTINGS.items()
        if _is_number(arguments.get(name))
        or (key == "train.schedule" and arguments.get(name) in ("constant", "linear", "cosine"))
    }


def _is_number(value: Any) -> bool:
    """Tell whether a value is a number of some size; a NaN compares as none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def read_json_lines(text: str, name: str, overrides: Overrides) -> Found:
    """Read a row per line: `trainer_log.jsonl` of LLaMA-Factory, `wandb-history.jsonl`."""
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"line {number} is no JSON: {error}") from None
        if not isinstance(row, dict):
            raise DataError(f"line {number} is no JSON object")
        rows.append(row)
    factory = any("current_steps" in row for row in rows)
    kind = "LLaMA-Factory trainer_log.jsonl" if factory else "JSON lines"
    totals = [row["total_steps"] for row in rows if isinstance(row.get("total_steps"), int)]
    return one_curve(
        "W&B history" if any("_step" in row for row in rows) else kind,
        name,
        rows,
        overrides,
        reported={"steps": totals[-1]} if totals else {},
    )


def read_csv(text: str, name: str, overrides: Overrides) -> Found:
    """Read a table with a header; commas, semicolons or tabs."""
    header = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=header.count)
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    try:
        names, *lines = [line for line in reader if any(cell.strip() for cell in line)]
    except csv.Error as error:
        raise DataError(f"line {reader.line_num}: {error}") from None
    for number, line in enumerate(lines, start=1):
        if len(line) != len(names):
            raise DataError(f"row {number} has {len(line)} cells and the header {len(names)}")
    # W&B writes the smallest and largest value of each point beside it.
    kept = [i for i, column in enumerate(names) if not column.endswith(("__MIN", "__MAX"))]
    rows = [{names[i].strip(): line[i].strip() for i in kept} for line in lines]
    if not rows:
        raise DataError("it has a header and no row")
    return one_curve("CSV", name, rows, overrides)


def read_trackio(path: Path, overrides: Overrides) -> Found:
    """Read every run of a project of Trackio: its tables `metrics` and `configs`."""
    try:
        metrics, configs = _trackio_tables(path)
    except sqlite3.Error as error:
        raise DataError(f"it is a SQLite database and no project of Trackio: {error}") from None
    by_run: dict[str, list[dict[str, Any]]] = {}
    for run, step, text in metrics:
        values = _object(text)
        if not isinstance(run, str) or values is None:
            raise DataError("a row of its table `metrics` has no name of a run or no JSON object")
        by_run.setdefault(run, []).append({**values, "step": step})
    if not by_run:
        raise DataError("no run was logged to it")
    names = list(dict.fromkeys(key for rows in by_run.values() for row in rows for key in row))
    # Its own step counts calls of log(), which is not always the step of training.
    columns = choose_columns(names, overrides)
    runs = tuple(
        read_curve(run, rows, columns, settings=_settings(_object(configs.get(run)) or {}))
        for run, rows in by_run.items()
    )
    return Found("Trackio project", runs, columns, left_over(names, columns))


def _object(text: Any) -> dict[str, Any] | None:
    """Read a JSON object; None for anything else."""
    found = json.loads(text) if isinstance(text, str | bytes) else None
    return found if isinstance(found, dict) else None


def _trackio_tables(path: Path) -> tuple[list[tuple[Any, ...]], dict[Any, Any]]:
    """Read what was logged and the settings of each run; sqlite3.Error where it cannot be."""
    with open_untrusted(path, writable=False, most_operations=_MOST_OPERATIONS) as database:
        for table in ("metrics", "configs"):
            if computed := computed_columns(database, table):
                raise DataError(f"its column {table}.{computed[0]} is computed, not logged")
        logged = "SELECT run_name, step, metrics FROM metrics ORDER BY id LIMIT ?"
        metrics = database.execute(logged, (_MOST_ROWS + 1,)).fetchall()
        if len(metrics) > _MOST_ROWS:
            raise DataError(f"it has more than {_MOST_ROWS:,} rows; export a run of it as CSV")
        configs = "SELECT run_name, config FROM configs LIMIT ?"
        return metrics, dict(database.execute(configs, (_MOST_ROWS,)).fetchall())


def read_tensorboard(path: Path, name: str, overrides: Overrides) -> Found:
    """Read the scalars of event files; UsageError where `tensorboard` is not installed."""
    try:
        from tensorboard.backend.event_processing import event_accumulator
        from tensorboard.util import tensor_util
    except ImportError:
        raise UsageError(
            "TensorBoard's event files are read by its own package; `pip install "
            "'tunebook[tensorboard]'`"
        ) from None
    events = event_accumulator.EventAccumulator(
        str(path), size_guidance={"scalars": 0, "tensors": 0}
    )
    events.Reload()
    rows: dict[int, dict[str, Any]] = {}
    for tag in events.Tags()["scalars"]:
        for event in events.Scalars(tag):
            rows.setdefault(event.step, {"step": event.step})[tag] = event.value
    for tag in events.Tags()["tensors"]:
        for event in events.Tensors(tag):
            value = tensor_util.make_ndarray(event.tensor_proto)
            if value.size == 1 and value.dtype.kind in "fiu":
                rows.setdefault(event.step, {"step": event.step})[tag] = float(value.item())
    if not rows:
        raise DataError("it holds no scalars")
    ordered = [rows[step] for step in sorted(rows)]
    return one_curve("TensorBoard events", name, ordered, overrides)
