"""The scripts that fill disks and take folders away know every command that there is."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest

from tunebook.cli.main import VERBS

SCRIPTS = Path(__file__).resolve().parents[3] / "benchmarks" / "faults_io"


@pytest.fixture
def verbs(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    before = set(sys.modules)
    yield importlib.import_module("verbs")
    for name in set(sys.modules) - before:  # `verbs` and `safety` are names that others may have
        if getattr(sys.modules[name], "__file__", None) and str(SCRIPTS) in str(
            sys.modules[name].__file__
        ):
            del sys.modules[name]


def commands() -> set[tuple[str, ...]]:
    """List every command as it is typed, those below a group too."""
    found: set[tuple[str, ...]] = set()
    for verb in VERBS:
        command = importlib.import_module(f"tunebook.cli.{verb}").command
        if isinstance(command, click.Group):
            found |= {(verb, name) for name in command.commands}
            if command.invoke_without_command:
                found.add((verb,))
        else:
            found.add((verb,))
    return found


def called(args: tuple[str, ...], known: set[tuple[str, ...]]) -> tuple[str, ...]:
    return args[:2] if args[:2] in known else args[:1]


def test_every_command_is_tried_on_a_full_disk(verbs: ModuleType) -> None:
    known = commands()
    tried = {called(verb.args, known) for verb in verbs.verbs("http://127.0.0.1/v1")}
    assert tried == known


def test_what_is_said_to_write_nothing_says_why_and_makes_nothing(verbs: ModuleType) -> None:
    for args, reason in verbs.READING:
        assert len(reason.split()) > 3, args
    reading = [verb for verb in verbs.verbs("") if verb.name.endswith("which only reads")]
    assert len(reading) == len(verbs.READING)
    assert not any(verb.makes for verb in reading)


def test_every_other_command_leaves_something_or_is_known_to_leave_nothing(
    verbs: ModuleType,
) -> None:
    """Without it a call that does nothing would count as one that got done."""
    nothing = {verb.name for verb in verbs.verbs("") if not verb.makes and "reads" not in verb.name}
    assert nothing == {
        "chat", "note", "evaluate", "chess --games", "clean", "serve", "ui",
    }  # fmt: skip
