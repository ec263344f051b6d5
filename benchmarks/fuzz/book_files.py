"""Read a book of which any file is broken: events, seals, plans, evaluations, the index, pages.

    python benchmarks/fuzz/book_files.py --count 3000 --seed 0

A book with three runs is made once. In each case one or two of its files are harmed, cut, emptied
or replaced, and the verbs that read a book are run on it. Nothing but the harmed files may change,
and the other runs of the book are listed as before.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from harness import Lost, Target, arguments, command, fuzz, one_sentence
from mutate import mutate_bytes, mutate_value

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

VERBS = (
    ("runs",),
    ("runs", "--json"),
    ("show", "second"),
    ("verdicts", "second"),
    ("lineage",),
    ("diff", "first", "second"),
    ("compare", "first", "second"),
    ("reindex",),
    ("notebook", "build"),
    ("plan", "--history"),
    ("note", "second", "a thought"),
    ("watch", "second"),
    ("sweep", "result", "rates"),
    ("vote", "second"),
    ("clean", "second"),
    ("result", "second"),
)


@cache
def whole_book() -> Path:
    """Make a book with a file of every kind."""
    from made_chess import even_grid, make_chess, make_grid
    from made_evaluations import make_answers
    from made_runs import make_plan, make_run
    from tunebook.book.places import create_book

    book = create_book(Path(tempfile.mkdtemp(prefix="fuzz-book-")) / "book")
    for name, parent in (("first", "null"), ("second", "first"), ("third", "null")):
        run = make_run(book, name, **({} if parent == "null" else {"extends": parent}))
        make_plan(run)
        make_chess(run, 0.8, 520)
        make_grid(run, even_grid())
        make_answers(run, ["one", "two"])
    command_in(book, "runs")
    command_in(book, "notebook", "build")
    return book


def command_in(book: Path, *argv: str) -> None:
    """Run a command in a book."""
    here = Path.cwd()
    os.chdir(book)
    try:
        command(*argv)
    finally:
        os.chdir(here)


@cache
def files() -> tuple[str, ...]:
    """List the files of the second run, of the index and of the book itself."""
    book = whole_book()
    found = [p for p in (book / "runs" / "second").rglob("*") if p.is_file()]
    found += (book / ".tunebook").glob("*.db")
    found += [book / "notebook.md", book / "tunebook.yaml"]
    return tuple(sorted(str(path.relative_to(book)) for path in found))


def draw(pool: list[Any], rng: random.Random) -> dict[str, Any]:
    """Harm one or two files, and choose what reads them."""
    harmed = {}
    for name in rng.sample(files(), rng.choice((1, 1, 1, 2))):
        raw = (whole_book() / name).read_bytes()
        way = rng.random()
        if name.endswith(".json") and way < 0.5:
            tree = json.loads(raw)
            for _ in range(rng.choice((1, 1, 3))):
                tree = mutate_value(tree, rng.choice(pool), rng)
            harmed[name] = json.dumps(tree, default=str).encode("utf-8", "surrogatepass")
        elif name.endswith(".jsonl") and way < 0.6:
            lines = raw.splitlines(keepends=True)
            at = rng.randrange(len(lines))
            tree = mutate_value(json.loads(lines[at]), rng.choice(pool), rng)
            lines[at] = json.dumps(tree, default=str).encode("utf-8", "surrogatepass") + b"\n"
            if rng.random() < 0.2:
                rng.shuffle(lines)
            harmed[name] = b"".join(lines)
        else:
            harmed[name] = (
                rng.choice((b"", b"\0" * 50, b"[]", b"{}", b"null", b"3"))
                if (way > 0.95)
                else mutate_bytes(raw, rng)
            )
    return {"harmed": harmed, "verbs": rng.sample(range(len(VERBS)), 5)}


def run(place: Path, case: dict[str, Any]) -> str:
    """Read the harmed book."""
    book = place / "book"
    shutil.copytree(whole_book(), book, symlinks=True)
    for name, raw in case["harmed"].items():
        (book / name).write_bytes(raw)
    before = {name: (book / name).read_bytes() for name in files() if name not in case["harmed"]}
    os.chdir(book)
    writes = False
    for number in case["verbs"]:
        one_sentence(*VERBS[number])
        writes |= VERBS[number][0] in ("notebook", "note", "reindex", "clean", "verdicts", "result")
    if "tunebook.yaml" not in case["harmed"]:
        code, out, error = command("runs")
        for name in ("first", "third"):
            if code or name not in out:
                raise Lost(f"runs ({code}) does not list {name}: {error[-200:]}")
    for name, raw in before.items():
        # The index and what is generated may be written anew; what was measured may not.
        kept = not name.endswith((".db", ".md", ".svg"))
        if kept and not writes and (book / name).read_bytes() != raw:
            raise Lost(f"{name} was changed by reading")
        if "events" in name and not (book / name).read_bytes().startswith(raw):
            raise Lost(f"{name} lost events")
    os.chdir(ROOT)
    return "read"


TARGET = Target(
    "book-files",
    "A book with a broken file is read all the same: one sentence names the run or the file, the "
    "other runs are listed, and nothing else is changed",
    ("R10", "D1"),
    draw,
    run,
    seconds=60.0,
    mended=(
        "`diff` of a run whose data.json lacks its sources ended in a KeyError.",
        "A step with a word where a number belongs ended `show` in a TypeError; it is named now.",
    ),
)

if __name__ == "__main__":
    options = arguments(__doc__, 3000)
    for verb in {verb[0] for verb in VERBS}:
        __import__(f"tunebook.cli.{verb}")
    files()
    code = fuzz(TARGET, options)
    shutil.rmtree(whole_book().parent, ignore_errors=True)
    sys.exit(code)
