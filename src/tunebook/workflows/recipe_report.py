"""The report of a recipe: a template, filled with what its steps have answered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import SandboxedEnvironment

from tunebook.errors import RunFileError
from tunebook.pages.elo import elo_lines
from tunebook.units import format_bytes, format_count, format_number, format_percent, format_seconds


def write_report(template: Path, answers: Mapping[str, Any], left: Sequence[str]) -> str:
    """Fill a template; every answer is there by its name, `left` are the steps left out.

    Raises RunFileError for a name that no step answered: a report has no gaps.
    """
    environment = SandboxedEnvironment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters.update(
        number=format_number,
        bytes=format_bytes,
        gigabytes=_gigabytes,
        count=format_count,
        percent=format_percent,
        seconds=format_seconds,
        interval=_interval,
        by_name=_by_name,
        points_by=_points_by,
        apart=_apart,
        average=_average,
        elo=_elo,
    )
    text = template.read_text(encoding="utf-8")
    try:
        return environment.from_string(text).render(**answers, left=list(left))
    except TemplateError as error:
        raise RunFileError(
            f"{template}: {error}; no step of the recipe has answered that"
        ) from None
    except (TypeError, ValueError, LookupError, ArithmeticError) as error:
        raise RunFileError(
            f"{template}: an answer is not of the kind that the report expects: {error}"
        ) from None


def _interval(values: Sequence[float] | None, digits: int = 4) -> str:
    if values is None:
        return "not measured"
    return f"[{format_number(values[0], digits)}, {format_number(values[1], digits)}]"


def _by_name(runs: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    return {str(run["name"]): run for run in runs}


def _gigabytes(n_bytes: float) -> str:
    """Write a size in decimal units, as notebooks and sellers of disks do."""
    return f"{n_bytes / 1e9:.3g} GB"


def _points_by(points: Sequence[Mapping[str, Any]], key: str) -> list[Mapping[str, Any]]:
    """Order the combinations of a sweep by a setting; `--json` has the best first."""
    return sorted(points, key=lambda point: point["settings"][key])


def _apart(a: Mapping[str, Any], b: Mapping[str, Any]) -> str | None:
    """Say how `b` lies to `a`, `above` or `below`; None where their intervals meet."""
    low, high = a["interval"], b["interval"]
    if low is None or high is None:
        return None
    return "above" if high[0] > low[1] else "below" if high[1] < low[0] else None


def _elo(details: Mapping[str, Any]) -> str:
    """Write an Elo with its interval and where the opponents' ratings are from."""
    return "; ".join(line.strip() for line in elo_lines(details))


def _average(values: Iterable[float | None]) -> float | None:
    """Average what was measured; None where nothing was."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
