"""Filters: each keeps a row or gives the reason to drop it; rewrites change it."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tunebook.data.filters.chain import Chain, Filter, Memory, Rewrite
from tunebook.data.filters.exact_duplicate import ExactDuplicate
from tunebook.data.filters.long_response import LongResponse
from tunebook.data.filters.short_response import ShortResponse
from tunebook.errors import RunFileError

FILTERS: Mapping[str, Callable[..., Filter | Rewrite | Memory]] = {
    "exact_duplicate": ExactDuplicate,
    "short_response": ShortResponse,
    "long_response": LongResponse,
}
"""Every filter by the name a run file gives it; its settings are the arguments with defaults."""

Settings = Mapping[str, float | int | str | bool]


@dataclass(frozen=True, slots=True)
class NamedFilter:
    """A filter with its name and the settings it runs with, defaults included."""

    name: str
    settings: Settings
    judge: Filter | Rewrite | Memory


def build_filters(
    specs: Sequence[str | Mapping[str, Mapping[str, float | int | str | bool]]],
) -> list[NamedFilter]:
    """Build the filters of a source afresh; RunFileError for an unknown name or setting."""
    built = []
    for spec in specs:
        pairs: list[tuple[str, Settings]] = (
            [(spec, {})] if isinstance(spec, str) else [(k, v) for k, v in spec.items()]
        )
        built += [_build(name, settings) for name, settings in pairs]
    return built


def chain_of(filters: Sequence[NamedFilter]) -> Chain:
    """Put filters in a chain."""
    return Chain([f.judge for f in filters], [f.name for f in filters])


def _build(name: str, settings: Settings) -> NamedFilter:
    make = FILTERS.get(name)
    if make is None:
        raise RunFileError(f"unknown filter {name!r}; {_nearest(name, list(FILTERS))}")
    known = dict(inspect.signature(make).parameters)
    for key, value in settings.items():
        if key not in known:
            raise RunFileError(
                f"filter {name} has no setting {key!r}; {_nearest(key, list(known))}"
            )
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise RunFileError(
                f"filter {name}: {key} is {value!r}, and must be a whole number of at least 0"
            )
    full = {key: settings.get(key, parameter.default) for key, parameter in known.items()}
    return NamedFilter(name, full, make(**full))


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"there is {', '.join(known)}" if known else "it has no settings"
