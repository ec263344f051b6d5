"""Another tool's run file while it is read: which of its keys were understood, and which were not.

Every key ends in one of three lists. What is in none of them was forgotten by whoever reads it, and
is refused, so nothing that decides about a run is ever lost on the way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tunebook.recipe.complain import show_value

_EMPTY: tuple[Any, ...] = (None, "", [], {})


class Foreign:
    """The keys of a run file, and what has become of each.

    `ours` has dotted keys of our run file with their values; `understood` says for each foreign key
    what it became, `left_out` why it changes nothing here, `refused` why it cannot be done; `notes`
    are what the other tool does without being told.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = {
            k: v for k, v in values.items() if not any(v is e or v == e for e in _EMPTY)
        }
        self.blank = [key for key in values if key not in self._values]
        self.ours: dict[str, Any] = {}
        self.understood: dict[str, str] = {}
        self.left_out: dict[str, str] = {}
        self.refused: dict[str, str] = {}
        self.notes: list[str] = []

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def get(self, key: str, default: Any = None) -> Any:
        """Give a value, or the default where the file says nothing or leaves it blank."""
        return self._values.get(key, default)

    def number(self, key: str, default: Any = None) -> Any:
        """Give a number, also where it was written as text, as 2e-4 is read by YAML 1.1."""
        value = self.get(key, default)
        if isinstance(value, str):
            try:
                value = float(value)
            except ValueError:
                self.refuse(f"{show_value(value)} is no number", key)
                return default
        if value is not default and not isinstance(value, (int, float)):
            self.refuse(f"{show_value(value)} is no number", key)
            return default
        return int(value) if isinstance(value, float) and value.is_integer() else value

    def put(self, ours: str, value: Any, *keys: str) -> None:
        """Set a key of ours, and write down that these keys of theirs became it."""
        self.ours[ours] = value
        for key in keys:
            if key in self._values and key not in self.refused:
                before = self.understood.get(key)
                own = f"{ours}: {show_value(value)}"
                self.understood[key] = own if before is None else f"{before}, {own}"

    def leave(self, why: str, *keys: str) -> None:
        """Write down why these keys, where they are stated, change nothing here."""
        for key in keys:
            if key in self._values and key not in self.understood:
                self.left_out[key] = why

    def refuse(self, why: str, *keys: str) -> None:
        """Write down why these keys, where they are stated, cannot be translated."""
        for key in keys:
            if key in self._values:
                self.refused[key] = why

    def drop(self, keys: Sequence[str]) -> None:
        """Forget keys that the user gives up; ValueError names one that is not there."""
        for key in keys:
            if key not in self._values and key not in self.blank:
                raise ValueError(key)
            self._values.pop(key, None)
            if key in self.blank:
                self.blank.remove(key)
            self.notes.append(f"`{key}` was given up on request")

    def close(self) -> None:
        """Refuse what nobody has looked at; a key that only switches something off is left out."""
        for key, value in self._values.items():
            if key in self.understood or key in self.left_out or key in self.refused:
                continue
            if value is False:
                self.left_out[key] = "switched off"
            else:
                self.refused[key] = "tunebook has nothing that does this"

    def shown(self, key: str) -> str:
        """Show a key with its value, shortened."""
        return f"{key}: {show_value(self._values[key])}"


def nested(ours: Mapping[str, Any]) -> dict[str, Any]:
    """Make sections of dotted keys."""
    whole: dict[str, Any] = {}
    for dotted, value in ours.items():
        *sections, name = dotted.split(".")
        holder = whole
        for section in sections:
            holder = holder.setdefault(section, {})
        holder[name] = value
    return whole


def read_per_epoch(file: Foreign, key: str, ours: str, epochs: float) -> bool:
    """Put as a share of all steps what happens so often in each epoch; tells whether it is stated.

    What never happens there happens here at the end alone.
    """
    often = file.number(key)
    if often is None:
        return False
    if often < 0:
        file.refuse("must be 0 or more", key)
        return True
    if often == 0:
        file.notes.append(f"`{key}: 0` is never there; here it is at the end of the run alone")
    times = often * epochs
    file.put(ours, f"{100 / times:.4g}%" if times > 1 else "100%", key)
    return True
