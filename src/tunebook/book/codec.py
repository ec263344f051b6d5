"""Records as JSON and back; NaN and infinities become words, since JSON has none."""

from __future__ import annotations

import dataclasses
import functools
import math
import types
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import orjson

R = TypeVar("R")
_WORDS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def to_plain(value: object) -> Any:
    """Turn records, tuples and numbers into what JSON knows."""
    if isinstance(value, float):
        return value if math.isfinite(value) else _word(value)
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 64:
        return str(value)  # more than JSON's writer knows
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [to_plain(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    return str(value)


def _word(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def dump_json(value: object, *, indent: bool = False) -> bytes:
    """Write a value as one JSON text ending in a newline."""
    option = orjson.OPT_APPEND_NEWLINE | (orjson.OPT_INDENT_2 if indent else 0)
    return orjson.dumps(to_plain(value), option=option)


def to_record(kind: type[R], payload: Mapping[str, Any]) -> R:
    """Build a record from parsed JSON by the types of its fields; unknown keys are left out.

    Raises KeyError, TypeError or ValueError when the payload is not such a record.
    """
    fields = {}
    hints: Any = _hints
    for name, hint, required in hints(kind):
        if name in payload:
            fields[name] = _convert(hint, payload[name])
        elif required:
            raise KeyError(name)
    return kind(**fields)


@functools.cache
def _hints(kind: Any) -> tuple[tuple[str, Any, bool], ...]:
    hints = get_type_hints(kind)
    return tuple(
        (
            f.name,
            hints[f.name],
            f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING,
        )
        for f in dataclasses.fields(kind)
    )


def _convert(hint: Any, value: Any) -> Any:
    if value is None:
        return value
    if hint is str or hint is int or hint is bool:
        return _of_kind(hint, value)
    if hint is float:
        return _WORDS[value] if isinstance(value, str) else float(value)
    if hint is object:
        return revive(value)
    return _convert_generic(hint, get_origin(hint), value)


def _of_kind(hint: Any, value: Any) -> Any:
    """Give a plain value where it is of its kind; a whole float is an integer, as in other tools.

    Raises TypeError: whoever computes with it later could not say which file it came from.
    """
    if isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    if hint is int and isinstance(value, float) and value.is_integer():
        return int(value)
    raise TypeError(f"{str(value)[:40]!r} where {hint.__name__} belongs")


def _convert_generic(hint: Any, origin: Any, value: Any) -> Any:
    arguments = get_args(hint)
    if origin is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(_convert(arguments[0], item) for item in value)
        return tuple(_convert(a, item) for a, item in zip(arguments, value, strict=True))
    if origin in (Union, types.UnionType):
        inner = [a for a in arguments if a is not type(None)]
        return _convert(inner[0], value) if len(inner) == 1 else value
    if origin is Literal:
        return value
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, dict):
            raise TypeError(f"{str(value)[:40]!r} where names with values belong")
        return {key: _convert(arguments[1], item) for key, item in value.items()}
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return to_record(hint, value)
    return value


def revive(value: Any) -> Any:
    """Turn the words for NaN and infinities back into numbers, at any depth."""
    if isinstance(value, str):
        return _WORDS.get(value, value)
    if isinstance(value, list):
        return [revive(item) for item in value]
    if isinstance(value, dict):
        return {key: revive(item) for key, item in value.items()}
    return value
