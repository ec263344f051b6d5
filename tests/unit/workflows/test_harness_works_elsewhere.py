"""The harness does not work in a stranger's book, whose folders would stand for its metrics."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tunebook.workflows.harness import _ask, _load_tasks, _Tasks


class _Task:
    eval_docs = ({"q": "1 + 1"},)

    def aggregation(self) -> dict[str, Any]:
        return {"acc": None}

    def higher_is_better(self) -> dict[str, bool]:
        return {"acc": True}


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Path, list[str]]]:
    """Put a harness there that keeps where it works and what lies there."""
    found: list[tuple[str, Path, list[str]]] = []

    def look(what: str) -> None:
        found.append((what, Path.cwd(), os.listdir()))

    class Manager:
        all_tasks = ("sums",)

        def __init__(self, **_given: Any) -> None:
            look("begin")

        def load(self, _names: list[str]) -> dict[str, Any]:
            look("load")
            return {"tasks": {"sums": _Task()}}

    def ask(*_given: Any, **_named: Any) -> dict[str, Any]:
        look("ask")
        return {}

    for name, holds in {
        "lm_eval": {"__version__": "0"},
        "lm_eval.tasks": {"TaskManager": Manager},
        "lm_eval.evaluator": {"simple_evaluate": ask},
        "lm_eval.models": {},
        "lm_eval.models.huggingface": {"HFLM": lambda **_named: None},
    }.items():
        module = ModuleType(name)
        module.__dict__.update(holds)
        monkeypatch.setitem(sys.modules, name, module)
    return found


def test_neither_metrics_nor_data_nor_git_are_looked_for_in_the_folder_of_the_command(
    tmp_path: Path, seen: list[tuple[str, Path, list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rouge").mkdir()
    monkeypatch.chdir(tmp_path)
    _load_tasks("sums", None)
    speaker: Any = SimpleNamespace(
        loaded=SimpleNamespace(network=None, context_length=8, device="cpu"),
        codec=SimpleNamespace(tokenizer=None),
    )
    _ask(speaker, _Tasks({}, {}, "acc", False))
    assert [what for what, _, _ in seen] == ["begin", "load", "ask"]
    assert all(holds == [] and tmp_path not in where.parents for _, where, holds in seen)
    assert Path.cwd() == tmp_path


def test_paths_of_task_files_of_ones_own_are_of_their_folder(
    tmp_path: Path, seen: list[tuple[str, Path, list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tasks").mkdir()
    monkeypatch.chdir(tmp_path)
    _load_tasks("sums", Path("tasks"))
    assert {where for _, where, _ in seen} == {tmp_path / "tasks"}
