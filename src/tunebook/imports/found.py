"""What was found in a file of somebody else's runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tunebook.records import StepRecord, ValidationRecord


@dataclass(frozen=True, slots=True)
class ImportedRun:
    """One run as far as its file tells.

    `settings` have dotted keys of the recipe; None is a cell that says nothing. `other` are
    settings that no key of the recipe stands for, as they were written. `reported` are numbers of
    the end without a step, by the names of `RunSummary`, `base_judge` beside them. `words` are what
    its author wrote about it.
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    other: Mapping[str, str] = field(default_factory=dict)
    steps: tuple[StepRecord, ...] = ()
    validations: tuple[ValidationRecord, ...] = ()
    reported: Mapping[str, Any] = field(default_factory=dict)
    words: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """The runs of a file; `format` names what wrote it.

    `columns` tell for every field which column it was read from, `not_read` what was left, each a
    phrase; `notes` are sentences on what was understood how. `words` belong to no run.
    """

    format: str
    runs: tuple[ImportedRun, ...]
    columns: Mapping[str, str]
    not_read: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    words: str = ""
