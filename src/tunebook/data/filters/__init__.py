"""Filters: each keeps a row or gives the reason to drop it; rewrites change it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tunebook.data.filters.chain import Chain, Filter, Memory, Rewrite
from tunebook.data.filters.character_classes import CharacterClasses
from tunebook.data.filters.exact_duplicate import ExactDuplicate
from tunebook.data.filters.language import Language
from tunebook.data.filters.long_response import LongResponse
from tunebook.data.filters.loss_band import LossBand
from tunebook.data.filters.markup import Markup
from tunebook.data.filters.near_duplicate import NearDuplicate
from tunebook.data.filters.regex import Regex
from tunebook.data.filters.repair_special_tokens import RepairSpecialTokens
from tunebook.data.filters.settings import Settings, check_settings, nearest
from tunebook.data.filters.short_response import ShortResponse
from tunebook.data.filters.short_response_ramp import ShortResponseRamp
from tunebook.data.filters.unbalanced import Unbalanced
from tunebook.errors import RunFileError
from tunebook.recipe.tree import Source

FILTERS: Mapping[str, Callable[..., Filter | Rewrite | Memory]] = {
    "repair_special_tokens": RepairSpecialTokens,
    "regex": Regex,
    "exact_duplicate": ExactDuplicate,
    "near_duplicate": NearDuplicate,
    "short_response": ShortResponse,
    "short_response_ramp": ShortResponseRamp,
    "long_response": LongResponse,
    "language": Language,
    "character_classes": CharacterClasses,
    "unbalanced": Unbalanced,
    "markup": Markup,
    "loss_band": LossBand,
}
"""Every filter by the name a run file gives it; its settings are the arguments of its class."""


@dataclass(frozen=True, slots=True)
class NamedFilter:
    """A filter with its name and the settings it runs with, defaults included.

    `fingerprint` names what decides beside the settings: the content of a file, the version of a
    model. With name and settings it is all that a filter's outcome depends on.
    """

    name: str
    settings: Settings
    judge: Filter | Rewrite | Memory
    fingerprint: str = ""


def build_filters(
    specs: Sequence[str | Mapping[str, Mapping[str, float | int | str | bool]]],
    source: Source | None = None,
) -> list[NamedFilter]:
    """Build the filters of a source afresh; RunFileError for an unknown name or setting.

    How the source is read is told to filters that have scores of it.
    """
    built = []
    for spec in specs:
        pairs: list[tuple[str, Settings]] = (
            [(spec, {})] if isinstance(spec, str) else [(k, v) for k, v in spec.items()]
        )
        built += [_build(name, settings) for name, settings in pairs]
    for one in built:
        if source is not None and isinstance(one.judge, LossBand):
            one.judge.read_as(source)
    return built


def chain_of(filters: Sequence[NamedFilter]) -> Chain:
    """Put filters in a chain."""
    return Chain([f.judge for f in filters], [f.name for f in filters])


def find_filter(name: str) -> Callable[..., Filter | Rewrite | Memory]:
    """Give the class of a filter; RunFileError when there is none of that name."""
    make = FILTERS.get(name)
    if make is None:
        raise RunFileError(f"unknown filter {name!r}; {nearest(name, list(FILTERS))}")
    return make


def _build(name: str, settings: Settings) -> NamedFilter:
    make = find_filter(name)
    full = check_settings(name, make, settings)
    try:
        judge = make(**full)
    except ValueError as error:
        raise RunFileError(f"filter {name}: {error}") from None
    fingerprint = getattr(judge, "fingerprint", None)
    return NamedFilter(name, full, judge, fingerprint() if fingerprint else "")
