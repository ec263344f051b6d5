"""Whether what the index keeps of a run is of the kinds that a summary has: others wrote it too.

By sets of types, which a book of thousands of runs needs: `codec.to_record` takes several times as
long.
"""

from __future__ import annotations

import dataclasses
import functools
import types
from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

Fits = Callable[[Any], bool]

MOST_LEVELS = 16
"""Of a setting; the deepest one of a run file has four, and what writes one goes down by calls."""

_TYPES: dict[Any, frozenset[type]] = {
    str: frozenset((str,)),
    bool: frozenset((bool,)),
    float: frozenset((float, int)),
    type(None): frozenset((type(None),)),
}


@functools.cache
def checks_of(kind: type[Any]) -> tuple[tuple[str, Fits], ...]:
    """Give for each field of a record what tells whether a parsed JSON value is of its type.

    Records within it are left to their own checks.
    """
    hints = get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind)]
    return tuple((n, _check(hints[n])) for n in names if not dataclasses.is_dataclass(hints[n]))


def _check(hint: Any) -> Fits:
    if hint in _TYPES:
        kinds = _TYPES[hint]
        return lambda value: type(value) in kinds
    if hint is int:
        return _is_whole
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal:
        return lambda value: value in inner
    if origin is tuple:
        return _check_list(inner)
    if origin in (Union, types.UnionType):
        if all(one in _TYPES for one in inner):
            kinds = frozenset(chain.from_iterable(_TYPES[one] for one in inner))
            return lambda value: type(value) in kinds
        either = [_check(one) for one in inner]
        return lambda value: any(fits(value) for fits in either)
    if inner[1] is object:
        return _are_settings
    assert issubclass(origin, Mapping)
    kinds = _TYPES[inner[1]]
    return lambda value: isinstance(value, dict) and kinds.issuperset(map(type, value.values()))


def _check_list(inner: tuple[Any, ...]) -> Fits:
    """Check a list of plain values, or one of lists of a length of the same."""
    if get_origin(inner[0]) is not tuple:
        kinds = _TYPES[inner[0]]
        return lambda value: isinstance(value, list) and kinds.issuperset(map(type, value))
    each = get_args(inner[0])
    kinds, length = _TYPES[each[0]], frozenset((len(each),))
    return lambda value: (
        isinstance(value, list)
        and all(isinstance(one, list) for one in value)
        and length.issuperset(map(len, value))
        and kinds.issuperset(map(type, chain.from_iterable(value)))
    )


def _is_whole(value: Any) -> bool:
    return type(value) is int or (type(value) is float and value.is_integer())


def _are_settings(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    # Most are plain, or empty.
    below = [one for one in value.values() if one and type(one) in (list, dict)]
    for _ in range(MOST_LEVELS):
        if not below:
            return True
        inner = [one.values() if isinstance(one, dict) else one for one in below]
        below = [one for one in chain.from_iterable(inner) if one and type(one) in (list, dict)]
    return not below
