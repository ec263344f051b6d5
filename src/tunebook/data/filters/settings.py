"""Check the settings of a filter against the signature of its class."""

from __future__ import annotations

import difflib
import inspect
import math
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tunebook.errors import RunFileError

Value = float | int | str | bool
Settings = Mapping[str, Value]

_KINDS: Mapping[object, str] = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
}


@dataclass(frozen=True, slots=True)
class Between:
    """Bounds of a number, both allowed; they stand in the signature as `Annotated[int, ...]`."""

    low: float = 0
    high: float = math.inf

    def __str__(self) -> str:
        if math.isinf(self.high):
            return f"of at least {self.low:g}"
        return f"from {self.low:g} to {self.high:g}"


@dataclass(frozen=True, slots=True)
class Setting:
    """One argument of a filter: its type, its bounds or choices, and its default if it has one."""

    name: str
    kind: type
    bounds: Between | None
    choices: tuple[str, ...]
    default: Value | None

    @property
    def wanted(self) -> str:
        """Say what a value must be."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        return f"{_KINDS[self.kind]} {self.bounds or ''}".rstrip()


def list_settings(make: Callable[..., object]) -> list[Setting]:
    """Read the settings of a filter from its class, in the order they are written there."""
    own = make.__init__ if inspect.isclass(make) else make
    hints = typing.get_type_hints(own, include_extras=True)
    found = []
    for name, parameter in inspect.signature(make).parameters.items():
        hint, bounds, choices = hints[name], None, tuple[str, ...]()
        if typing.get_origin(hint) is typing.Annotated:
            hint, bounds = typing.get_args(hint)
        if typing.get_origin(hint) is Literal:
            hint, choices = str, typing.get_args(hint)
        default = None if parameter.default is parameter.empty else parameter.default
        found.append(Setting(name, hint, bounds, choices, default))
    return found


def check_settings(name: str, make: Callable[..., object], given: Settings) -> dict[str, Value]:
    """Give all settings of a filter, defaults included; RunFileError for a wrong one."""
    known = {setting.name: setting for setting in list_settings(make)}
    for key in given:
        if key not in known:
            raise RunFileError(f"filter {name} has no setting {key!r}; {nearest(key, list(known))}")
    full: dict[str, Value] = {}
    for key, setting in known.items():
        if key in given:
            full[key] = _checked(name, setting, given[key])
        elif setting.default is not None:
            full[key] = setting.default
        else:
            raise RunFileError(
                f"filter {name} needs a {key}: {setting.wanted}; say `{name}: {{{key}: ...}}`"
            )
    return full


def read_setting(name: str, make: Callable[..., object], key: str, text: str) -> Value:
    """Read a setting typed as text, as its type wants it; what does not fit is left as text."""
    kinds = {setting.name: setting.kind for setting in list_settings(make)}
    kind = kinds.get(key, str)
    if kind is bool and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if kind in (int, float):
        for number in (int, float):
            try:
                return number(text)
            except ValueError:
                continue
    return text


def _checked(name: str, setting: Setting, value: Value) -> Value:
    fits: bool
    if setting.kind is float:
        fits = isinstance(value, int | float) and not isinstance(value, bool)
        fits = fits and math.isfinite(value)  # type: ignore[arg-type]
    elif setting.kind is int:
        fits = isinstance(value, int) and not isinstance(value, bool)
    else:
        fits = isinstance(value, setting.kind)
    if fits and setting.bounds is not None:
        number: Any = value
        fits = setting.bounds.low <= number <= setting.bounds.high
    if fits and setting.choices:
        fits = value in setting.choices
    if not fits:
        raise RunFileError(
            f"filter {name}: {setting.name} is {value!r}, and must be {setting.wanted}"
        )
    # 1 and 1.0 are one setting, so that the cached tokens of one serve the other.
    return float(value) if setting.kind is float else value


def nearest(name: str, known: Sequence[str]) -> str:
    """Say which known name was probably meant, or all there are."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"there is {', '.join(known)}" if known else "it has no settings"
