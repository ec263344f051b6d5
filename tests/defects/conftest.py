"""A book, a run on the embedded model, and `tunebook plan` over it, whole and broken.

A test breaks the stage that makes the data, the way some notebook's code was broken, and plans the
run from the command line. `caught` plans it whole first, where the finding must not be.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The model is so small that threads wait for each other longer than they work."""
    import torch

    n = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n)


@pytest.fixture
def in_book(book: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty book that the command line is called in."""
    monkeypatch.chdir(book)
    return book


@pytest.fixture
def write_data(in_book: Path) -> Callable[[str, str | list[Any]], Path]:
    """Give a function that writes a data file: text, or rows as .json or .jsonl."""

    def write(name: str, content: str | list[Any]) -> Path:
        path = in_book / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, list) and name.endswith(".jsonl"):
            content = "".join(json.dumps(row) + "\n" for row in content)
        path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
        return path

    return write


@pytest.fixture
def write_run(in_book: Path) -> Callable[..., Path]:
    """Give a function that writes a run file: small defaults, changed by what is given.

    A dict is merged into the default of its key. `data` is a path, or a list of sources.
    """

    def write(data: Path | list[Any], name: str = "run", **changes: Any) -> Path:
        values: dict[str, Any] = {
            "name": name,
            "model": "tunebook/tiny",
            "data": [{"path": str(data)}] if isinstance(data, Path) else data,
            "device": "cpu",
            "max_seq_len": 256,
            "validation": {"fraction": 0.1},
            "train": {"max_steps": 4, "effective_batch_size": 4, "learning_rate": 1e-3},
        }
        for key, value in changes.items():
            merged = isinstance(value, dict) and isinstance(values.get(key), dict)
            values[key] = {**values[key], **value} if merged else value
        path = in_book / f"{name}.yaml"
        path.write_text(json.dumps(values), "utf-8")
        return path

    return write


@pytest.fixture
def tunebook(in_book: Path) -> Callable[..., tuple[int, str, str]]:
    """Give a function that runs the command line in this process: (exit code, stdout, stderr)."""
    from tunebook.cli.main import main

    def run(*args: object) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([str(arg) for arg in args])
        return code, out.getvalue(), err.getvalue()

    return run


@pytest.fixture
def plan_json(tunebook: Callable[..., tuple[int, str, str]]) -> Callable[..., tuple[int, Any]]:
    """Give a function that runs `tunebook plan RUN.yaml --json ...`: (exit code, the plan)."""

    def plan(run_file: Path, *args: object) -> tuple[int, Any]:
        code, out, err = tunebook("plan", run_file, "--json", *args)
        assert out.strip(), f"plan ended with {code} and said only: {err}"
        return code, json.loads(out)

    return plan


def _findings(plan: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    """Give the first finding of each name."""
    return {found["name"]: found for found in reversed(plan["checks"])}


@pytest.fixture
def caught(
    in_book: Path, plan_json: Callable[..., tuple[int, Any]], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Mapping[str, Any]]:
    """Give a function that requires a finding of a broken run, and none of its healthy twin.

    It takes the run file, the finding's name and level, and what breaks the run: a function of
    monkeypatch. Tokens are made anew in between, and the finding is given back.
    """

    def require(
        run_file: Path,
        name: str,
        level: str,
        break_it: Callable[[pytest.MonkeyPatch], object],
        *args: object,
    ) -> Mapping[str, Any]:
        code, healthy = plan_json(run_file, *args)
        assert name not in _findings(healthy), _findings(healthy)[name]
        assert code == 0, _findings(healthy)
        for cache in in_book.rglob("cache"):
            shutil.rmtree(cache)
        break_it(monkeypatch)
        code, broken = plan_json(run_file, *args)
        assert name in _findings(broken), list(_findings(broken))
        found = _findings(broken)[name]
        assert found["level"] == level
        refused = {f["name"] for f in broken["checks"] if f["level"] == "refuse"}
        # What is broken may be refused by another name beside a warning.
        assert code == (3 if refused - set(broken["accepted"]) else 0)
        assert found["evidence"]
        assert found["way_out"]
        return found

    return require


@pytest.fixture
def random_games() -> Callable[[int], list[dict[str, str]]]:
    """Give a function that plays games of chess at random, as rows of UCI moves."""
    chess = pytest.importorskip("chess")

    def play(n: int) -> list[dict[str, str]]:
        draw, rows = random.Random(11), []
        for number in range(n):
            board = chess.Board()
            while len(board.move_stack) < 24 + number % 9 and not board.is_game_over():
                board.push(draw.choice(list(board.legal_moves)))
            moves = " ".join(move.uci() for move in board.move_stack)
            rows.append({"Moves": moves, "WhiteElo": str(1500 + number)})
        return rows

    return play
