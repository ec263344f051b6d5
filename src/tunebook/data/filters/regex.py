"""Replace what a regular expression finds."""

from __future__ import annotations

import dataclasses
import re
from typing import Literal

from tunebook.data.filters.chain import Rewrite
from tunebook.records import Example


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
        """Give the changed row, the very same object when nothing changes."""
        messages = tuple(
            dataclasses.replace(m, content=self.pattern.sub(self.replace, m.content))
            if self.role in ("all", m.role)
            else m
            for m in example.messages
        )
        if messages == example.messages:
            return example
        return dataclasses.replace(example, messages=messages)
