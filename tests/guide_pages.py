"""Read what pages of docs/ ask to be executed, and do it as their reader would.

A comment right above a fenced block says what the block is. It is seen neither on a forge nor in
the built guide:

    <!-- file: rows.jsonl -->   the block is the content of that file
    <!-- run -->                the block is typed into a shell, where the last one ended
    <!-- run, slow -->          the same, in `make slow` alone
    <!-- run, exit 3 -->        its last command ends with 3
    <!-- shows -->              what the block before printed: these lines in this order, whatever
                                counts, times and sizes are in them; a number with a decimal
                                point, as a loss has, may be 15 % off, for another processor;
                                `…` stands for anything
    <!-- change -->             a diff of one file: each hunk's old lines become its new ones

A page with `<!-- in a copy of the project -->` begins in one, any other in an empty folder.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(
    r"^<!-- (?P<asked>(?:file|run|shows|change)[^\n]*?) -->\n+^(?P<mark>`{3,})(?P<kind>\S*)\n"
    r"(?P<text>.*?)^(?P=mark)$",
    re.MULTILINE | re.DOTALL,
)
_COPY = "<!-- in a copy of the project -->"
_ROOT = Path(__file__).resolve().parents[1]
_COPIED = (
    "src",
    "tests/conftest.py",
    "tests/made_runs.py",
    "tests/made_curves.py",
    "pyproject.toml",
)
_NUMBER = re.compile(r"[\d.,:%+\-]*\d[\d.,:%e+\-]*(?: (?:[KMGT]i?B|%|s|min|h)(?!\w))?")
_MARK = "\0"
_MEASURED = re.compile(r" (?:[KMGT]i?B|s|min|h)$")
_OFF = 0.15


@dataclass(frozen=True, slots=True)
class Block:
    """A block that a page wants to be taken at its word; `line` is where its comment stands."""

    asked: str
    kind: str
    text: str
    line: int

    @property
    def slow(self) -> bool:
        """Tell whether it is left to `make slow`."""
        return "slow" in self.asked

    @property
    def exit_code(self) -> int:
        """Give what its last command ends with."""
        found = re.search(r"exit (\d+)", self.asked)
        return int(found[1]) if found else 0


def read_blocks(page: Path) -> list[Block]:
    """Give the blocks of a page that a comment speaks of, in their order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(m["asked"], m["kind"], m["text"], text.count("\n", 0, m.start()) + 1)
        for m in _BLOCK.finditer(text)
    ]


def run_page(page: Path, folder: Path, *, slow: bool) -> list[str]:
    """Do in an empty folder what a page says, and give the commands that were run.

    Without `slow` blocks that are slow are left out, and what they are said to show.
    """
    environment, here, printed, done = _shell(folder), folder, "", list[str]()
    left_out = False
    if _COPY in page.read_text(encoding="utf-8"):
        copy_project(folder)
        environment["PYTHONPATH"] = str(folder / "src")
    for block in read_blocks(page):
        where = f"{page.name}:{block.line}"
        if block.asked.startswith("file: "):
            path = here / block.asked.removeprefix("file: ")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        elif block.asked == "change":
            change_file(block.text, here)
        elif block.asked.startswith("run"):
            left_out = block.slow and not slow
            if left_out:
                continue
            printed, code, here = _run(block.text, here, environment)
            assert code == block.exit_code, f"{where} ended with {code}:\n{printed}"
            done += [line for line in block.text.splitlines() if line.startswith("tunebook ")]
        elif not left_out:
            missing = missing_line(block.text, printed)
            assert missing is None, f"{where}: {missing!r} was not printed:\n{printed}"
    return done


def copy_project(folder: Path) -> None:
    """Copy what is needed to change the code and test it."""
    for name in _COPIED:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (_ROOT / name).is_dir():
            ignore = shutil.ignore_patterns("__pycache__", "recipes")
            shutil.copytree(_ROOT / name, target, ignore=ignore)
        else:
            shutil.copyfile(_ROOT / name, target)


def change_file(diff: str, folder: Path) -> None:
    """Change one file as a diff says; its old lines have to stand there exactly once."""
    head, *hunks = re.split(r"^@@.*\n", diff, flags=re.MULTILINE)
    path = folder / re.findall(r"^\+\+\+ (\S+)", head, re.MULTILINE)[0]
    text = path.read_text(encoding="utf-8")
    for hunk in hunks:
        lines = [line if line else " " for line in hunk.splitlines()]
        old, new = (
            "".join(f"{line[1:]}\n" for line in lines if line[0] in signs) for signs in (" -", " +")
        )
        assert text.count(old) == 1, f"{path.name} has these lines {text.count(old)} times:\n{old}"
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")


def missing_line(shown: str, printed: str) -> str | None:
    """Give the first line of a block that was not printed behind those before it."""
    lines = iter([_plain(line) for line in printed.splitlines()])
    for line in shown.splitlines():
        parts = [_plain(part) for part in line.split("…")]
        if not any(part.text for part in parts):
            continue
        if not any(_stands_in(parts, candidate) for candidate in lines):
            return line
    return None


@dataclass(frozen=True, slots=True)
class _Plain:
    """A line with a mark in place of each number, and the numbers."""

    text: str
    numbers: list[str]


def _plain(line: str) -> _Plain:
    text = " ".join(_NUMBER.sub(f" {_MARK} ", line).split())
    return _Plain(text, _NUMBER.findall(line))


def _stands_in(parts: list[_Plain], line: _Plain) -> bool:
    place = 0
    for part in parts:
        found = line.text.find(part.text, place)
        while found >= 0 and not _numbers_fit(part, line, found):
            found = line.text.find(part.text, found + 1)
        if found < 0 or (len(parts) == 1 and line.text != part.text):
            return False
        place = found + len(part.text)
    return True


def _numbers_fit(part: _Plain, line: _Plain, place: int) -> bool:
    first = line.text.count(_MARK, 0, place)
    # Both have as many from there on, since their texts are the same.
    return all(map(_fits, part.numbers, line.numbers[first:]))


def _fits(shown: str, printed: str) -> bool:
    """Tell whether a number is near enough; a time, a size and what is no decimal always is."""
    if "." not in shown or _MEASURED.search(shown):
        return True
    try:
        want, have = _value(shown), _value(printed)
    except ValueError:  # a version, an address
        return True
    last_digit = 10.0 ** -len(re.sub(r"e.*", "", shown.partition(".")[2]).rstrip(",:% "))
    rounding = last_digit / 2 if "e" not in shown else 0.0
    return abs(have - want) <= _OFF * abs(want) + rounding


def _value(number: str) -> float:
    return float(number.strip(",:% ").replace(",", ""))


def _shell(folder: Path) -> dict[str, str]:
    """Give an environment in which `tunebook` is this one, whether or not it is installed."""
    programs = folder.parent / f"{folder.name}-bin"
    programs.mkdir()
    for name, words in (("tunebook", "-m tunebook "), ("python", "")):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {words}"$@"\n', encoding="utf-8")
        program.chmod(0o755)
    path = os.pathsep.join([str(programs), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "COLUMNS": "200", "LC_ALL": "C.UTF-8"}


def _run(text: str, here: Path, environment: dict[str, str]) -> tuple[str, int, Path]:
    ended = here / ".where-it-ended"
    shell = ["bash", "-euc", f"trap 'pwd > \"{ended}\"' EXIT\n{text}"]
    done = subprocess.run(
        shell,
        cwd=here,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=600,
        check=False,
    )
    after = Path(ended.read_text(encoding="utf-8").rstrip("\n"))
    ended.unlink()
    return done.stdout, done.returncode, after
