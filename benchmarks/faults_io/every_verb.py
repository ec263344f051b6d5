"""Every verb, on a disk that is full, read-only, or gone while it writes (R5, R6).

    python benchmarks/faults_io/every_verb.py --count 12 --seed 0

The book lies on a tmpfs. Each verb is called once with room, which says how many pages and how
many names it takes. Then, each time on a fresh copy of the book:

- full: with so many free pages, or so many free names, at up to `--count` points from none to what
  it takes, so that each write in turn is the first that does not fit;
- read-only: the disk is mounted so;
- gone: book, run or `runs` is deleted or moved away at a random moment while the verb works.

Each call has to end with one sentence and exit code 1 or 2, or 0 where it got done; never a
traceback, never "this is a bug". On a full or read-only disk nothing that was in the book is lost:
a file is as it was, or has become longer, or is a whole new one. Then, with room, the same command
gets done and leaves what it leaves with room from the start.

`ui` and `serve` are ended by Ctrl-C once they are there; before that, pages of `ui` are opened and
a note is written. `demo` and `recipes run` train a toy for four steps, and a server of others is a
stand-in.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import forked
from answering import answering
from full_disk import PAGE, ROOM, resize, small_disk, used
from report import arguments, reported, scratch
from safety import record
from verbs import Verb, make_book, make_short, verbs
from visits import REFUSED

LONG = ("train", "resume", "sweep", "demo", "recipes run", "replay", "serve")
"""Verbs whose cases are told one by one: each takes the whole of a run."""
NO_ROOM = re.compile(r"[Nn]o space|disk is full|is full|room|free")
SECONDS = 120.0
"""A verb that goes on for so long got past what was refused, and is ended."""
OURS = re.compile(
    r"heartbeat\.json$|\.(lock|db|db-wal|db-shm|log|html|svg|csv|sqlite)$|/(\.tunebook|seal)/"
)
WRITTEN = (
    ("R5-every-verb", "R5", "full", "on a full disk, at points from no page and no name to what "
     "each takes: a sentence, nothing lost, done once there is room"),
    ("R6-read-only", "R6", "read-only", "on a read-only disk: a sentence, or what needs no write"),
    ("R6-gone", "R6", "gone", "whose book, runs or run is deleted or moved away meanwhile: a "
     "sentence, and an end"),
)  # fmt: skip


class Case:
    """One verb in one book, again and again."""

    def __init__(self, verb: Verb, whole: Path, disk: Path, counts: Counter[str]) -> None:
        self.verb, self.whole, self.disk, self.counts = verb, whole, disk, counts
        self.book = disk / "book"
        self.wrong: list[tuple[str, str]] = []
        self.fault = ""

    def fresh(self) -> None:
        """Make the book what it was before the verb."""
        shutil.rmtree(self.book, ignore_errors=True)
        for left in self.disk.iterdir():
            shutil.rmtree(left)
        shutil.copytree(self.whole, self.book, symlinks=True)
        self.verb.before(self.book)

    def call(self, during: float | None = None, then: object = None) -> tuple[int, str]:
        """Call the verb; gives exit code and what was said. -9: ended, it got past the fault."""
        said = self.whole.parent / "said"
        stdin = self.whole.parent / "stdin"
        stdin.write_text(self.verb.stdin, encoding="utf-8")
        command = forked.Command(self.book, self.verb.args, output=said, stdin=stdin)
        ends = time.monotonic() + SECONDS
        if during is not None:
            time.sleep(during)
            then()  # type: ignore[operator]
        visited = False
        seen = ""
        while command.poll() is None and time.monotonic() < ends:
            if not visited and self.verb.until and self.verb.until in command.said():
                visited = True
                seen = "\n" + self.verb.visit(command.said())
                os.kill(command.pid, signal.SIGINT)
            time.sleep(0.005)
        if command.poll() is None:
            os.kill(command.pid, signal.SIGINT)
            with contextlib.suppress(AssertionError):
                command.wait(20)
            return -9, command.said() + seen
        return command.returncode or 0, command.said() + seen

    def complain(self, how: str, what: str, said: str) -> None:
        """Keep what went wrong under the fault that is tried; all of it is told at the end."""
        text = f"{self.verb.name}, {how}: {what}\n    {said.strip()[-600:]}"
        self.wrong.append((self.fault, text))

    def count(self) -> None:
        """Count a case of the fault that is tried."""
        self.counts[f"{self.fault}: cases"] += 1
        self.counts[f"{self.fault}: of {self.verb.name}"] += 1

    def missing(self) -> list[str]:
        """List what the verb makes and what is not there."""
        return [made for made in self.verb.makes if not any(self.book.glob(made))]

    def check_said(self, how: str, code: int, said: str) -> bool:
        """One sentence, and never a traceback."""
        if "Traceback" in said or "this is a bug" in said:
            self.complain(how, "a bug", said)
            return False
        if code not in (0, 1, 2, 3, -9) or (code > 0 and not said.strip()):
            self.complain(how, f"ended with {code}", said)
            return False
        return True

    def check_kept(self, how: str, said: str) -> None:
        """What was in the book before is there: the same, longer, or whole and new."""
        for path in self.whole.rglob("*"):
            inside = str(path.relative_to(self.whole))
            if path.is_symlink() or not path.is_file() or OURS.search(f"/{inside}"):
                continue
            now = self.book / inside
            if self.verb.name == "clean" and ".tmp-" in inside:
                continue
            if not now.is_file():
                if "/checkpoints/" not in inside:  # rotated by a run that goes on
                    self.complain(how, f"{inside} is gone", said)
                continue
            before, after = path.read_bytes(), now.read_bytes()
            if after.startswith(before):
                continue
            try:
                if now.suffix == ".json":
                    json.loads(after)
                whole = len(after) > 0 and (b"Words of my own." in after or b"done" not in before)
                assert whole or now.suffix != ".md" or "done" not in inside
            except (ValueError, AssertionError):
                self.complain(how, f"{inside} is broken", said)
        asides = [p for p in self.book.rglob(".*") if re.search(r"\.\w+\.\d+$", p.name)]
        if asides:
            self.complain(how, f"left behind: {[p.name for p in asides]}", said)

    def check_again(self, how: str, code_with_room: int, before: str) -> None:
        """With room the same command gets done, or another where it said so."""
        run = re.search(r"train|resume", self.verb.name) and self._begun()
        only_pages = "and `tunebook notebook build` writes" in before
        if run or only_pages:
            words = ("notebook", "build") if only_pages else ("resume", str(run))
            again = forked.run(self.book, *words)
            code, said = again.returncode, again.said()
        else:
            code, said = self.call()
        if code not in (0, code_with_room) or "this is a bug" in said:
            self.complain(how, f"then, with room, ended with {code}", said)
        if missing := self.missing():
            self.complain(how, f"then, with room, left no {missing}", said)

    def _begun(self) -> str | None:
        name = Path(self.verb.args[1]).stem
        return name if (self.book / "runs" / name / "events").exists() else None


def full(case: Case, most: int, rng: random.Random) -> None:
    """Fill the disk at points from no page, and from no name, to what the verb takes."""
    case.fault = "full"
    case.fresh()
    before, names_before = used(case.disk), names(case.disk)
    code_with_room, said = case.call()
    missing = case.missing()
    if not case.check_said("with room", code_with_room, said) or code_with_room or missing:
        case.complain("with room", f"ended with {code_with_room}, left no {missing}", said)
        return
    pages = (used(case.disk) - before) // PAGE + 2
    n_names = names(case.disk) - names_before + 2
    points = [("pages", n) for n in spread(pages, most, rng)]
    points += [("names", n) for n in spread(n_names, max(most // 2, 2), rng)]
    for kind, n in points:
        case.fresh()
        before, names_before = used(case.disk), names(case.disk)
        if kind == "pages":
            resize(case.disk, before + n * PAGE)
        else:
            remount(case.disk, f"nr_inodes={names_before + n}")
        how = f"{n} {kind} free"
        try:
            code, said = case.call()
        finally:
            remount(case.disk, f"size={ROOM},nr_inodes=100000")
        case.count()
        if not case.check_said(how, code, said):
            continue
        case.check_kept(how, said)
        pages = [line for line in said.splitlines() if line.startswith(REFUSED)]
        if any(not NO_ROOM.search(line) for line in pages):
            case.complain(how, "a page was refused and not a word of space", said)
        if code in (1, 2, 3):
            if not NO_ROOM.search(said):
                case.complain(how, f"ended with {code} and not a word of space", said)
            case.counts["full: refused in a sentence"] += 1
            case.check_again(how, code_with_room, said)
        elif code == 0:
            case.counts["full: got done all the same"] += 1
            if missing := case.missing():
                case.complain(how, f"said it was done and left no {missing}", said)
        else:
            case.complain(how, "did not end", said)


def spread(most: int, count: int, rng: random.Random) -> list[int]:
    """Give up to so many numbers below `most`: all small ones first, then some at random."""
    small = list(range(min(most, count // 2)))
    rest = list(range(len(small), most))
    return small + sorted(rng.sample(rest, min(len(rest), count - len(small))))


def names(disk: Path) -> int:
    """Count the names that are in use on a volume."""
    found = os.statvfs(disk)
    return found.f_files - found.f_ffree


def remount(disk: Path, options: str) -> None:
    """Change a tmpfs."""
    subprocess.run(["mount", "-o", f"remount,{options}", str(disk)], check=True)


def read_only(case: Case) -> None:
    """Call the verb on a disk that takes no write."""
    case.fault = "read-only"
    case.fresh()
    remount(case.disk, "ro")
    try:
        code, said = case.call()
    finally:
        remount(case.disk, "rw")
    case.count()
    if case.check_said("read-only", code, said):
        case.check_kept("read-only", said)
        if code and not re.search(r"read-only|Read-only|not writable|cannot write", said):
            case.complain("read-only", f"ended with {code} and not a word of it", said)


def gone(case: Case, count: int, rng: random.Random) -> None:
    """Take the book, the runs or one run away while the verb works."""
    case.fault = "gone"
    began = time.monotonic()
    case.fresh()
    case.call()
    takes = min(time.monotonic() - began, 8.0)
    for number in range(count):
        case.fresh()
        what = (case.book, case.book / "runs", case.book / "runs" / "done")[number % 3]
        moved = number % 2 == 1

        def take(what: Path = what, moved: bool = moved) -> None:
            with contextlib.suppress(OSError):
                if moved:
                    what.rename(case.disk / f"moved-{what.name}")
                else:
                    shutil.rmtree(what, ignore_errors=True)

        code, said = case.call(rng.uniform(0, takes), take)
        how = f"{what.name} {'moved' if moved else 'deleted'}"
        case.count()
        if code == -9:
            case.complain(how, "did not end", said)
        else:
            case.check_said(how, code, said)


def main() -> int:
    """Call every verb so often as asked."""
    parser = arguments(__doc__, 12)
    parser.add_argument("--verb", nargs="*", default=[""], help="verbs whose name begins so")
    parser.add_argument("--fault", choices=("full", "read-only", "gone"), help="only this one")
    parser.add_argument("--write", action="store_true", help="into benchmarks/results/safety")
    parser.add_argument("--gone", type=int, default=6, help="how often a folder is taken away")
    options = parser.parse_args()
    if sys.platform != "linux" or os.geteuid() != 0:
        print("every_verb: left out, a tmpfs can only be mounted by root on Linux")
        return 0
    forked.prepare()
    rng = random.Random(options.seed)
    wrong: Counter[str] = Counter()
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(scratch())
        judge = stack.enter_context(answering())
        try:
            disk = stack.enter_context(small_disk(folder / "disk"))
        except PermissionError as error:
            print(f"every_verb: left out, no tmpfs can be mounted here ({error})")
            return 0
        counts = stack.enter_context(reported("every_verb", options))
        # Where the copies will lie, so that what is written down in it holds.
        made = make_book(disk)
        shutil.move(made / "toy", folder / "toy")
        os.symlink(folder / "toy", made / "toy")
        whole = folder / "whole"
        shutil.move(made, whole)
        make_short(folder)
        for verb in verbs(judge):
            if not verb.name.startswith(tuple(options.verb)):
                continue
            counts["verbs"] += 1
            case = Case(verb, whole, disk, counts)
            began = time.monotonic()
            if options.fault in (None, "full"):
                full(case, max(options.count // (3 if verb.slow else 1), 2), rng)
            if options.fault in (None, "read-only"):
                read_only(case)
            if options.fault in (None, "gone"):
                gone(case, options.gone // (3 if verb.slow else 1), rng)
            wrong.update(fault for fault, _ in case.wrong)
            print(f"{verb.name}: {time.monotonic() - began:.0f} s, {len(case.wrong)} wrong",
                  flush=True)  # fmt: skip
            for _, line in case.wrong:
                print(f"  {line}", flush=True)
        counts["wrong"] = wrong.total()
    for file, number, kind, promise in WRITTEN:
        if n := counts[f"{kind}: cases"]:
            said = ", ".join(f"{counts[f'{kind}: of {verb}']} of {verb}" for verb in LONG)
            words = f"{counts['verbs']} calls {promise}"
            record(file, number, words, options, n, wrong[kind], f"of these {said}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
