"""Books, runs, data files and logs with names that are trouble, and links that lead elsewhere.

    python benchmarks/fuzz/paths.py

Each case works, or ends in one sentence; nothing outside of the book's folder is written or told.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from harness import Lost, Wordless, arguments, one_sentence, record
from imports import CSV

NAMES = {
    "newline": b"a\nb",
    "255-bytes": b"n" * 251,
    "255-bytes-of-emoji": "💥".encode() * 62,
    "not-utf8": b"caf\xe9",
    "quotes": b'it\'s "odd"',
    "dash": b"-rf",
    "percent": b"%s%n%00",
    "braces": b"{x} {{7*7}} ${HOME}",
    "glob": b"a*b?[c]",
    "spaces": b"  two  ",
    "right-to-left": "a\u202eb".encode(),
    "escape": b"\x1b[31mred",
    "backslash": b"a\\b",
    "tilde": b"~root",
    "hash": b"#a;b&c|d",
    "yaml": b"a: [b",
    "two-forms": "e\u0301".encode(),
}
RUNS = ("..", "../x", "a/b", "/etc", "a\n", "a\nb", "", " ", ".hidden", "n" * 101, "n" * 255,
        "café",
        "a\0b",
        "-rf", "*", "run:x", "first\n")  # fmt: skip


def in_book(place: Path, name: bytes) -> None:
    """Make a book of that name, import a log into it, and read it."""
    book = place / os.fsdecode(name)
    one_sentence("init", "--", str(book))
    os.chdir(book)
    (place / "log.csv").write_text(CSV)
    one_sentence("import", str(place / "log.csv"), "--name", "first", seen=_must_work)
    for verb in (("runs",), ("runs", "--json"), ("show", "first"), ("notebook", "build"),
                 ("lineage",), ("reindex",), ("note", "first", "a thought")):  # fmt: skip
        one_sentence(*verb, seen=_must_work)


def _must_work(code: int, _out: str, error: str) -> None:
    if code:
        raise Wordless(f"exit {code}: {error}")


def _must_fail(code: int, _out: str, error: str) -> None:
    if code != 2 or "UTF-8" not in error:
        raise Wordless(f"exit {code}: {error}")


def as_log(place: Path, name: bytes) -> None:
    """Import a log of that name."""
    path = place / os.fsdecode(name + b".csv")
    path.write_text(CSV)
    one_sentence("init", str(place / "book"))
    os.chdir(place / "book")
    odd = _must_fail if name == NAMES["not-utf8"] else _must_work
    one_sentence("import", str(path), seen=odd)
    one_sentence("runs", seen=_must_work)


def as_data(place: Path, name: bytes) -> None:
    """Find and read a data file of that name, alone and in its folder."""
    from tunebook.data.detect import detect
    from tunebook.data.sources import hash_files, locate
    from tunebook.workflows.data_show import source_of

    path = place / os.fsdecode(name + b".csv")
    path.write_text("question,answer\nWhat?,This.\n")
    for one in (str(path), str(place)):
        found = locate(one)
        detect(found, source_of(one))
        hash_files(found)


def as_run_name(place: Path, name: str) -> None:
    """Name a run like that: refused in one sentence, and nothing written outside."""
    one_sentence("init", str(place / "book"))
    os.chdir(place / "book")
    (place / "log.csv").write_text(CSV)
    before = sorted(str(p) for p in place.iterdir())

    def refused(code: int, out: str, error: str) -> None:
        if code == 0:
            raise Wordless(f"a run named {name!r} was made")

    one_sentence("import", str(place / "log.csv"), "--name", name, seen=refused)
    one_sentence("show", "--", name, seen=refused)
    if sorted(str(p) for p in place.iterdir()) != before or any((place / "book/runs").iterdir()):
        raise Lost(f"{name!r} wrote something")


def link(place: Path, what: str) -> None:
    """Put a link where a book has a file or a folder, and read the book."""
    book, secret = place / "book", place / "secret"
    one_sentence("init", str(book))
    os.chdir(book)
    (place / "log.csv").write_text(CSV)
    one_sentence("import", str(place / "log.csv"), "--name", "first")
    secret.mkdir()
    (secret / "key.txt").write_text("SECRET\n")
    target = book / what
    if target.is_dir():
        shutil.rmtree(target)
    else:
        target.unlink(missing_ok=True)
    os.symlink(target if what == "notebook.md" else secret / "key.txt", target)

    def told(_code: int, out: str, error: str) -> None:
        if "SECRET" in out + error:
            raise Lost(f"{what} told what a link leads to")

    for verb in (("runs",), ("show", "first"), ("notebook", "build"), ("lineage",), ("reindex",)):
        one_sentence(*verb, seen=told)
    if (secret / "key.txt").read_text() != "SECRET\n":
        raise Lost(f"{what}: what the link leads to was written")


LINKS = ("notebook.md", "runs/first/notebook.md", "runs/first/curve.svg", "runs/first/seal.json",
         "runs/first/events", "runs/first/data.json", ".tunebook/index.db",
         "runs/first")  # fmt: skip


def cases() -> dict[str, Callable[[Path], None]]:
    """Give every case by its name."""
    found: dict[str, Callable[[Path], None]] = {}
    for word, raw in NAMES.items():
        for kind in (in_book, as_log, as_data):
            found[f"{kind.__name__} {word}"] = lambda place, k=kind, r=raw: k(place, r)
    for name in RUNS:
        found[f"as_run_name {name[:20]!r}"] = lambda place, n=name: as_run_name(place, n)
    for what in LINKS:
        found[f"link {what}"] = lambda place, w=what: link(place, w)
    return found


def main() -> int:
    """Try each."""
    options = arguments(__doc__, 0)
    here = Path.cwd()
    failed = []
    every = cases()
    for name, case in every.items():
        with tempfile.TemporaryDirectory(prefix="paths-") as folder:
            try:
                case(Path(folder).resolve())
            except Exception as error:
                if type(error).__name__ not in ("DataError", "UsageError"):
                    failed.append(f"{name}: {type(error).__name__}: {error}")
            finally:
                os.chdir(here)
    for line in failed:
        print("FAILED", line[:600])
    print(f"paths: {len(every)} cases, {len(failed)} failed")
    if options.write:
        words = (
            "Odd names of books, runs, data and logs work or are refused in one sentence; links "
        )
        record("paths", f"{words}out of a book tell and harm nothing", ("R6", "5"), len(every),
               len(failed), options.seed, MENDED, {})  # fmt: skip
    return 1 if failed else 0


MENDED = (
    "A name with a line break at its end was taken for the name of a run.",
    "A data file or log whose name is not UTF-8 ended in a UnicodeEncodeError.",
    "Cleaning, rotating and training deleted what lay behind links out of a book, and pages told "
    "of it; nothing is deleted or read behind one now.",
    "Logs, lists of trials, caches and the token of the pages were written through links that came "
    "with a book, and files of the user's emptied.",
    "A link in the place of a run's events made a finished run look paused, and resuming it wrote "
    "into its log.",
)

if __name__ == "__main__":
    sys.exit(main())
