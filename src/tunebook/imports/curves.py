"""Rows of logged numbers, whatever their columns are called, as records of steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tunebook.errors import DataError, UsageError
from tunebook.imports.found import Found, ImportedRun
from tunebook.records import StepRecord, ValidationRecord

SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "step": (
        "train/global_step", "trainer/global_step", "global_step", "current_steps", "step",
        "steps", "iteration", "iter", "_step",
    ),
    "epoch": ("epoch", "train/epoch", "epochs"),
    "loss": ("loss", "train/loss", "train_loss", "training_loss"),
    "val_loss": (
        "val_loss", "eval_loss", "eval/loss", "val/loss", "validation_loss", "valid_loss",
        "validation/loss", "valid/loss",
    ),
    "learning_rate": ("learning_rate", "lr", "train/learning_rate", "train/lr", "peak_lr"),
    "grad_norm": ("grad_norm", "train/grad_norm", "gradient_norm"),
}  # fmt: skip
"""Names of columns by what they hold, the likeliest first."""

_WORDS = {"nan": math.nan, "inf": math.inf, "infinity": math.inf, "-inf": -math.inf}
_WORDS["-infinity"] = -math.inf

Row = Mapping[str, Any]

_MOST_STEPS = 1 << 53
"""From here on a float does not tell one step from the next."""


def choose_columns(names: Sequence[str], overrides: Mapping[str, str]) -> dict[str, str]:
    """Say which column holds what; UsageError for an override that names no column or field."""
    chosen: dict[str, str] = {}
    for field, column in overrides.items():
        if field not in SYNONYMS:
            raise UsageError(f"there is no field {field}; --column takes {', '.join(SYNONYMS)}")
        if column not in names:
            raise UsageError(f"there is no column {column}; the file has {_some(names)}")
        chosen[field] = column
    for field, synonyms in SYNONYMS.items():
        if field in chosen:
            continue
        for synonym in synonyms:
            same = [name for name in names if plain_name(name) == synonym]
            if len(same) > 1:
                raise UsageError(
                    f"the columns {_some(same)} all hold {field}; choose one with "
                    f"--column {field}=NAME"
                )
            if same:
                chosen[field] = same[0]
                break
    if "step" not in chosen:
        raise DataError(
            f"no column holds the step: the file has {_some(names)}; name it with "
            "--column step=NAME"
        )
    if not {"loss", "val_loss"} & chosen.keys():
        raise DataError(
            f"no column holds a loss: the file has {_some(names)}; name it with --column loss=NAME"
        )
    return chosen


def plain_name(name: str) -> str:
    """Bring the name of a column to what it is looked up by; W&B puts the run's name in front."""
    return name.rpartition(" - ")[2].strip().strip("*`").lower().replace(" ", "_")


def read_curve(
    name: str,
    rows: Sequence[Row],
    columns: Mapping[str, str],
    *,
    reported: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> ImportedRun:
    """Make the records of one run; DataError names the row and column of what is no number.

    Where a step comes twice, as after a resume, the later row stands.
    """
    steps: dict[int, StepRecord] = {}
    validations: dict[int, ValidationRecord] = {}
    for number, row in enumerate(rows, start=1):
        values = {f: _number(row.get(c), c, number) for f, c in columns.items()}
        step = values.pop("step")
        if step is None:
            continue
        if not (0 <= step < _MOST_STEPS and step == int(step)):
            raise DataError(
                f"row {number}: {columns['step']} is {step:g}, and a step is a whole number from 0"
            )
        if values.get("loss") is not None:
            steps[int(step)] = _step(int(step), values)
        if (loss := values.get("val_loss")) is not None:
            validations[int(step)] = _validation(int(step), loss)
    if not steps and not validations:
        raise DataError(f"{name}: none of {len(rows)} rows has a step and a loss")
    return ImportedRun(
        name,
        settings or {},
        steps=tuple(steps[step] for step in sorted(steps)),
        validations=tuple(validations[step] for step in sorted(validations)),
        reported={k: v for k, v in (reported or {}).items() if _is_told(v)},
    )


def _is_told(value: object) -> bool:
    """Tell whether a number that a log states of its whole run is one."""
    return (
        isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < _MOST_STEPS
    )


def one_curve(
    format_name: str,
    name: str,
    rows: Sequence[Row],
    overrides: Mapping[str, str],
    *,
    reported: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Found:
    """Read a file that holds the rows of one run."""
    names = list(dict.fromkeys(key for row in rows for key in row))
    columns = choose_columns(names, overrides)
    run = read_curve(name, rows, columns, reported=reported, settings=settings)
    return Found(format_name, (run,), columns, left_over(names, columns))


def left_over(names: Sequence[str], columns: Mapping[str, str]) -> tuple[str, ...]:
    """Name the columns that nothing was read from."""
    return tuple(f"column {name}" for name in names if name not in columns.values())


def _number(value: object, column: str, row: int) -> float | None:
    if value is None or value == "":
        return None
    if isinstance(value, str):
        value = _WORDS.get(value.strip().lower(), value)
    if not isinstance(value, bool):
        try:
            return float(value)  # type: ignore[arg-type]
        except (OverflowError, TypeError, ValueError):
            pass
    raise DataError(
        f"row {row}: {column} is {str(value)[:40]!r}, not a number; mend the file or choose "
        "another column with --column"
    )


def _step(step: int, values: Mapping[str, float | None]) -> StepRecord:
    loss = values["loss"]
    assert loss is not None
    return StepRecord(
        step=step,
        epoch=values.get("epoch"),
        loss=loss,
        loss_sum=None,
        target_tokens=None,
        tokens=None,
        padding_tokens=None,
        learning_rate=values.get("learning_rate"),
        grad_norm=values.get("grad_norm"),
        clipped=None,
        applied=None,
        update_ratio=None,
        changed_fraction=None,
        examples=(),
        lengths=(),
        sources={},
        canary_loss=None,
        seconds=None,
        memory_bytes=None,
        padding_target_tokens=None,
    )


def _validation(step: int, loss: float) -> ValidationRecord:
    return ValidationRecord(
        step=step,
        loss=loss,
        loss_sum=None,
        target_tokens=None,
        examples=None,
        documents=None,
        scored_bytes=None,
        examples_hash=None,
        interval=None,
        per_source={},
        seconds=None,
    )


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:12])
    return f"{shown} and {len(names) - 12} more" if len(names) > 12 else shown or "none"
