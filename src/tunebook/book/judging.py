"""What runs of one book share of a judge: scores already paid for, and the frozen answers.

`.tunebook/judge/<judge>.jsonl` is a cache: each run's evaluation log holds the truth.
`judge-anchor/answers.jsonl` are answers that never change, `judge-anchor/sessions.jsonl` what they
scored in every session; neither can be made again, so both belong to the book.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from tunebook.book.atomic import alone, storage_errors, write_atomically
from tunebook.book.codec import dump_json
from tunebook.book.places import RunFolder
from tunebook.book.writing import make_folder, open_to_write
from tunebook.errors import BookError
from tunebook.regular import read_regular


class ScoreCache:
    """Scores of one judge by what was judged; several processes may add to it."""

    def __init__(self, run: RunFolder, judge: str) -> None:
        self._book = run.book
        self._path = run.judge_cache / f"{judge}.jsonl"
        # A line that two processes or a kill spoiled is no score, and costs one question.
        lines = _read(self._path, broken_ok=True)
        self._lines = {line["key"]: line for line in lines if isinstance(line.get("key"), str)}

    def get(self, key: str) -> Mapping[str, Any] | None:
        """Look up the line of what was judged before."""
        return self._lines.get(key)

    def add(self, key: str, line: Mapping[str, object]) -> None:
        """Remember a score."""
        self._lines[key] = {"key": key, **line}
        data = dump_json(self._lines[key])
        with storage_errors(f"write {self._path}", self._path.parent.parent, needs_bytes=len(data)):
            make_folder(self._book, self._path.parent)
            with open_to_write(self._book, self._path, "append") as file:
                file.write(data)  # a line goes out in one system call, when the file is closed


def read_anchor_answers(run: RunFolder) -> list[dict[str, Any]]:
    """Read the frozen answers of the book; none when there are none yet."""
    return _read(run.judge_anchor / "answers.jsonl")


def freeze_anchor_answers(
    run: RunFolder, lines: Sequence[Mapping[str, object]]
) -> list[dict[str, Any]]:
    """Write the frozen answers, once; gives those of another process that was first."""
    with alone(run.judge_anchor / ".lock"):
        if not (frozen := read_anchor_answers(run)):
            content = b"".join(dump_json(line) for line in lines)
            write_atomically(run.judge_anchor / "answers.jsonl", content)
            frozen = read_anchor_answers(run)
    return frozen


def read_anchor_sessions(run: RunFolder, judge: str) -> list[dict[str, Any]]:
    """Read what the frozen answers scored with this judge, the newest session last."""
    lines = _read(run.judge_anchor / "sessions.jsonl")
    return [line for line in lines if line.get("judge") == judge]


def add_anchor_session(run: RunFolder, session: Mapping[str, object]) -> None:
    """Write down a session."""
    path = run.judge_anchor / "sessions.jsonl"
    with alone(run.judge_anchor / ".lock"):
        before = read_regular(path) if path.exists() else b""
        write_atomically(path, before + dump_json(session))


def _read(path: Path, *, broken_ok: bool = False) -> list[dict[str, Any]]:
    try:
        data = read_regular(path)
    except FileNotFoundError:
        return []
    lines = []
    for number, line in enumerate(data[: data.rfind(b"\n") + 1].splitlines(), start=1):
        try:
            lines.append(dict(orjson.loads(line)))
        except (orjson.JSONDecodeError, TypeError, ValueError):
            if not broken_ok:
                raise BookError(
                    f"{path}:{number}: this line is not JSON; restore the file or cut the line"
                ) from None
    return lines
