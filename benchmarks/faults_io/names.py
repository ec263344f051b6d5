"""Make a book and train in it in folders of odd names, of other owners, and behind links (R6).

    python benchmarks/faults_io/names.py

Every case takes `init`, `train` (two steps of a toy), `show`, `runs` and `notebook build`. Either
all of it works and the run is finished, or the first that cannot be done is refused with one
sentence and exit code 1 or 2, before the first step; which of the two is said in the case. Cases of
owners are left out where this is not root, that of a mounted disk where none can be mounted.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import forked
import toy
from full_disk import small_disk
from odd_names import NAMES, NO_TEXT
from report import arguments, reported, scratch
from safety import record

LENGTH = {
    "train": {"max_steps": 2},
    "evaluate": {"every": 2},
    "checkpoint": {"every": 2},
    "accept": ["random-base", "disk-too-small"],
}
NOBODY = 65534
TOO_DEEP = "/".join(["n" * 250] * 15 + ["m" * 240])


class Wrong(Exception):
    """Neither worked nor was refused before training."""


@dataclass(frozen=True)
class Case:
    """A place for a book; `make` gives it in an empty folder, and readies what it is like.

    `works` is whether all has to work there, or to be refused. `within` is called when the book is
    there, before training. In `powerless` ones root is an owner like any other.
    """

    label: str
    make: Callable[[Path], Path]
    works: bool
    within: Callable[[Path], object] = lambda _book: None
    powerless: bool = False


class Powerless(forked.Command):
    """A command that may do no more than the owner of its files, even where root calls it."""

    powerless = False

    def _work(self, args: Sequence[str], inside: Callable[[], None]) -> int:
        if self.powerless:
            drop_powers()
        return super()._work(args, inside)


def drop_powers() -> None:
    """Give up what root may do beyond others (capset, version 3: two words of each set)."""
    head = (ctypes.c_uint32 * 2)(0x20080522, 0)
    if ctypes.CDLL(None, use_errno=True).capset(head, (ctypes.c_uint32 * 6)()) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def cases(disk: Path | None) -> list[Case]:
    """List them."""
    named = [
        Case(label, lambda place, name=raw: place / os.fsdecode(name), label != NO_TEXT)
        for label, raw in NAMES.items()
    ]
    found = [
        *named,
        Case("too deep for the system", lambda place: place / TOO_DEEP, False),
        Case("a link to a folder", _linked, True),
        Case("a link to nothing", _dangling, False),
        Case("a link to itself", _looped, False),
        Case("a file", _file, False),
        Case("runs are a link to another folder", _plain, True, _runs_elsewhere),
        Case("runs are a file", _plain, False, _runs_a_file),
        Case("a run's folder is a file", _plain, False, _run_a_file),
        Case("the cache's folder is a file", _plain, False, _cache_a_file),
    ]
    if sys.platform == "linux" and os.geteuid() == 0:
        found += [
            Case("read-only folder", _mode(0o555), False, powerless=True),
            Case("folder nobody may look into", _mode(0o000), False, powerless=True),
            Case("book of another owner", _plain, False, _of_another, True),
            Case("runs of another owner", _plain, False, _runs_of_another, True),
            Case("run file nobody may read", _plain, False, _hidden_file, True),
            Case("book of one's own among others", _mode(0o777), True, powerless=True),
        ]
    if disk is not None:
        found.append(
            Case("disk mounted read-only", lambda _place: disk / "book", False, _read_only)
        )
    return found


def _plain(place: Path) -> Path:
    return place / "book"


def _linked(place: Path) -> Path:
    (place / "real").mkdir()
    (place / "book").symlink_to("real")
    return place / "book"


def _dangling(place: Path) -> Path:
    (place / "book").symlink_to("nowhere/at/all")
    return place / "book"


def _looped(place: Path) -> Path:
    (place / "book").symlink_to("book")
    return place / "book"


def _file(place: Path) -> Path:
    (place / "book").write_text("words", encoding="utf-8")
    return place / "book"


def _mode(mode: int) -> Callable[[Path], Path]:
    def make(place: Path) -> Path:
        (place / "inside").mkdir()
        (place / "inside").chmod(mode)
        return place / "inside" / "book"

    return make


def _runs_elsewhere(book: Path) -> None:
    (book.parent / "large").mkdir()
    (book / "runs").rmdir()
    (book / "runs").symlink_to(book.parent / "large")


def _runs_a_file(book: Path) -> None:
    (book / "runs").rmdir()
    (book / "runs").write_text("words", encoding="utf-8")


def _run_a_file(book: Path) -> None:
    (book / "runs" / "run_1").write_text("words", encoding="utf-8")


def _cache_a_file(book: Path) -> None:
    (book / ".tunebook" / "cache").write_text("words", encoding="utf-8")


def _of_another(book: Path) -> None:
    for path in (book, *book.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
        path.chmod(0o755 if path.is_dir() else 0o644)


def _runs_of_another(book: Path) -> None:
    os.chown(book / "runs", NOBODY, NOBODY)


def _hidden_file(book: Path) -> None:
    (book / "run_1.yaml").chmod(0o000)


def _read_only(book: Path) -> None:
    from every_verb import remount

    remount(book.parent, "ro")


def try_case(case: Case, place: Path, model: Path) -> str:
    """Do all of it in an empty folder; gives `works` or the sentence, Wrong for anything else."""
    book = case.make(place)
    start = book.parent
    with contextlib.suppress(OSError):
        start.mkdir(parents=True, exist_ok=True)
    # A name alone, as one types it; the way to a folder that is too deep is no folder to be in.
    here = place if case.powerless or len(os.fsencode(start)) > 1500 else start
    sentence = _call(case, here, place, "init", "--", os.path.relpath(book, here))
    if not sentence:
        _inputs(book, model)
        case.within(book)
        for args in (("train", "run_1.yaml"), ("show", "run_1"), ("runs",), ("notebook", "build")):
            sentence = _call(case, book, place, *args)
            if sentence:
                break
    trained = False
    with contextlib.suppress(OSError):
        trained = any((book / "runs" / "run_1" / "checkpoints").glob("step-*"))
    if sentence and trained:
        raise Wrong(f"refused after training: {sentence}")
    if not sentence and not (book / "runs" / "run_1" / "final" / "MANIFEST.json").is_file():
        raise Wrong("said to be done, and no weights are there")
    if case.works != (not sentence):
        raise Wrong(sentence or "works, and was to be refused")
    return sentence or "works"


def _inputs(book: Path, model: Path) -> None:
    """Put data and a run file into a book, told by their whole names where those are UTF-8."""
    shutil.copy(model.parent / "rows.json", book / "rows.json")
    whole = str(book / "rows.json")
    told = whole if whole.isprintable() else "rows.json"
    changes = {"model": str(model), "data": [{"path": told}]}
    toy.write_run(book, "run_1", **LENGTH, **changes)


def _call(case: Case, here: Path, place: Path, *args: str) -> str:
    """Run a command; gives its one sentence, or nothing where it worked."""
    said_in = place.parent / "said"
    Powerless.powerless = case.powerless
    command = Powerless(here, args, output=said_in)
    code = command.wait()
    said = command.said()
    if "Traceback" in said or "this is a bug" in said or code not in (0, 1, 2):
        raise Wrong(f"{args[0]} ended with {code}: {said.strip()[-600:]}")
    sentences = [line for line in said.splitlines() if line.startswith("tunebook: ")]
    if code and len(sentences) != 1:
        raise Wrong(f"{args[0]} ended with {code} and {len(sentences)} sentences: {said[-600:]}")
    return sentences[0] if code else ""


def main() -> int:
    """Try each."""
    parser = arguments(__doc__, 1000, writes=True)
    parser.add_argument("--only", default="", help="cases whose label holds this")
    options = parser.parse_args()
    forked.prepare()
    wrong = n = 0
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(scratch())
        disk = None
        with contextlib.suppress(PermissionError, FileNotFoundError):
            disk = stack.enter_context(small_disk(folder / "disk"))
        counts: Counter[str] = stack.enter_context(reported("names", options))
        made = toy.make_book(folder / "made")
        for case in cases(disk)[: options.count]:
            if options.only not in case.label:
                continue
            place = folder / "place"
            place.mkdir()
            n += 1
            try:
                told = try_case(case, place, made / "toy")
                counts["work" if told == "works" else "refused in one sentence"] += 1
            except Wrong as error:
                wrong, told = wrong + 1, f"WRONG: {error}"
            print(f"{case.label:34} {told[:300]}", flush=True)
            shutil.rmtree(place)
        counts["cases"], counts["wrong"] = n, wrong
    promise = (
        "In a folder of any name a book trains, or is refused in one sentence before training; so "
        "is what belongs to others, cannot be written, or is behind a link"
    )
    note = f"{counts['work']} work, {counts['refused in one sentence']} are refused"
    record("R6-names", "R6", promise, options, n, wrong, note)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
