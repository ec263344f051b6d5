"""Replace what a regular expression finds."""

from __future__ import annotations

import dataclasses
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from tunebook.data.filters.chain import Rewrite
from tunebook.data.sources import MAX_ROW_BYTES
from tunebook.errors import DataError
from tunebook.records import Example
from tunebook.units import shorten

SECONDS = 30.0
"""Processor time that a pattern may take for one row."""


class Regex(Rewrite):
    r"""Replaces what `pattern` finds by `replace`, as Python's `re.sub` does (`\1` is a group).

    `role` says whose turns are changed. `^` and `$` match at the ends of lines.
    """

    def __init__(
        self,
        pattern: str,
        replace: str = "",
        role: Literal["all", "system", "user", "input", "knowledge", "assistant", "text"] = "all",
    ) -> None:
        if not pattern:
            raise ValueError("pattern is empty; say what is to be found")
        try:
            self.pattern = re.compile(pattern, re.MULTILINE)
        except re.error as error:
            raise ValueError(
                f"pattern {pattern!r} is no regular expression: {error}; correct it, and write it "
                "in single quotes in a run file"
            ) from None
        try:
            # The template is read before anything is searched, so an empty text shows its faults.
            self.pattern.sub(replace, "")
        except (re.error, IndexError) as error:
            raise ValueError(
                f"replace {replace!r} does not fit pattern {pattern!r}: {error}"
            ) from None
        self.replace, self.role = replace, role

    def rewrite(self, example: Example) -> Example:
        """Give the changed row, the very same object when nothing changes.

        DataError for a pattern that takes `SECONDS`, or makes more of a text than a row may hold.
        """
        with self._in_time():
            messages = tuple(
                dataclasses.replace(m, content=self._changed(m.content))
                if self.role in ("all", m.role)
                else m
                for m in example.messages
            )
        if messages == example.messages:
            return example
        return dataclasses.replace(example, messages=messages)

    def _changed(self, text: str) -> str:
        # A group may hold all of the text, at each of its places.
        most = len(self.replace) * (len(text) if "\\" in self.replace else 1)
        if (len(text) + 1) * (1 + most) <= MAX_ROW_BYTES:
            return self.pattern.sub(self.replace, text)
        left = MAX_ROW_BYTES

        def put(found: re.Match[str]) -> str:
            nonlocal left
            put_in = found.expand(self.replace)
            left -= len(put_in)
            if left < 0:
                raise DataError(
                    f"filter regex: pattern {shorten(self.pattern.pattern)!r} makes more than "
                    f"{MAX_ROW_BYTES >> 20} MiB of one text; give a shorter `replace`"
                )
            return put_in

        return self.pattern.sub(put, text)

    @contextmanager
    def _in_time(self) -> Iterator[None]:
        """End a search that goes back and forth for ever; Python looks for signals within one."""
        if threading.current_thread() is not threading.main_thread():
            yield  # signals come to the main thread alone; rows are read in it
            return

        def end(_number: int, _frame: object) -> None:
            raise DataError(
                f"filter regex: pattern {shorten(self.pattern.pattern)!r} took {SECONDS:g} s for "
                "one row; let nothing repeat that repeats itself, as in (a+)+"
            )

        before = signal.signal(signal.SIGVTALRM, end) or signal.SIG_DFL
        signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            signal.signal(signal.SIGVTALRM, before)
