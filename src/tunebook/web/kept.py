"""Pages that were written stay written while nothing is new: a table of 2,000 runs takes a second.

What a page was written from is compared by identity; `Shelf.measured` gives the same dict, and of
each run the same summary, as long as nothing changed.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

MOST_BYTES = 32 << 20
"""What all kept pages and their addresses may hold; a table of 2,000 runs has four megabytes."""
MOST_PAGES = 64
"""How many are kept: each also holds on to what it was written from."""


@dataclass(frozen=True, slots=True)
class Written:
    """A page as it is sent, and a word for what it shows, where somebody asks for what is new."""

    body: bytes
    seen: str = ""


class Kept:
    """Pages by what was asked for; one that several ask for at once is written once."""

    def __init__(self) -> None:
        self._pages: OrderedDict[Hashable, tuple[tuple[object, ...], Written, int]] = OrderedDict()
        self._making: dict[Hashable, threading.Lock] = {}
        self._lock = threading.Lock()

    def page(self, key: Hashable, of: tuple[object, ...], write: Callable[[], Written]) -> Written:
        """Give the page that was asked for as `key`; written again when `of` are other objects."""
        with self._lock:
            making = self._making.setdefault(key, threading.Lock())
        try:
            with making:
                with self._lock:
                    if (found := self._pages.get(key)) and _same(found[0], of):
                        self._pages.move_to_end(key)
                        return found[1]
                written = write()
                with self._lock:
                    # A character of what was asked for takes four bytes at most.
                    size = len(written.body) + 4 * len(repr(key))
                    self._pages[key] = of, written, size
                    self._pages.move_to_end(key)
                    self._forget()
                return written
        finally:
            with self._lock:
                self._making.pop(key, None)

    def _forget(self) -> None:
        held = sum(size for _, _, size in self._pages.values())
        while held > MOST_BYTES or len(self._pages) > MOST_PAGES:
            _, (_, _, size) = self._pages.popitem(last=False)
            held -= size


def _same(one: tuple[object, ...], other: tuple[object, ...]) -> bool:
    return len(one) == len(other) and all(
        a is b or (isinstance(a, str) and a == b) for a, b in zip(one, other, strict=True)
    )
