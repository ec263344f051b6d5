"""Run out of space at each write of a run, make room, and go on (R5). Linux, as root (tmpfs).

    python benchmarks/faults_io/full_disk.py --count 60 --seed 0

The book lies on a tmpfs that is shrunk to what is used plus so many pages of 4 KiB, drawn anew for
every case, before one of:

- `train`, with `accept: [disk-too-small]`, or the plan would refuse the run before step 1: from no
  page up to what the whole run needs, so token cache, resolved run file, events, plan, data.json,
  every checkpoint, final weights and notebook page are each the first that does not fit;
- `resume` of a run that stands at step 6 of 8, likewise.

Each time the command has to end with exit code 1 and one sentence that says what was not written,
where, and the way out; no traceback; every checkpoint whole. A run that has begun is paused. Then
room is made, and the same command or `resume` has to end in the weights and losses of a run that
had room enough. A command that only lacked room for pages or the last state ends with 0 or 1.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import forked
import toy
from kept import finish, newest, paused_run, whole_run
from report import arguments, reported, scratch
from safety import record

PAGE = 4096
LENGTH = {"train": {"max_steps": 8}, "evaluate": {"every": 4}, "checkpoint": {"keep": 2}}
ACCEPT = {"accept": ["random-base", "disk-too-small"]}
ROOM = 256 << 20
PROMISE = (
    "A run on a full disk is paused in one sentence, and ends in the same bits once there is room"
)


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount a tmpfs; PermissionError where that is not allowed."""
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        raise PermissionError(made.stderr.strip())
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def used(disk: Path) -> int:
    """Give the bytes that are in use on a volume, in whole pages."""
    found = os.statvfs(disk)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


def resize(disk: Path, n_bytes: int) -> None:
    """Give a tmpfs another size."""
    subprocess.run(["mount", "-o", f"remount,size={n_bytes}", str(disk)], check=True)


def one_case(
    book: Path, disk: Path, name: str, args: tuple[str, ...], pages: int, counts: Counter[str]
) -> None:
    """Run a command with so many free pages, then again with room, and compare."""
    resize(disk, used(disk) + pages * PAGE)
    said_file = book.parent.parent / "said"
    command = forked.Command(book, args, output=said_file)
    code = command.wait()
    said = command.said()
    resize(disk, ROOM)
    log = book / "runs" / name / "train.log"
    spoken = said + (log.read_text(errors="replace") if log.exists() else "")
    assert "Traceback" not in spoken, (pages, spoken)
    assert "this is a bug" not in spoken, (pages, spoken)
    newest(book, name)  # raises where any checkpoint is damaged
    if code == 0:
        counts["there was room enough"] += 1
    else:
        assert code == 1, (pages, code, said)
        last = said.strip().splitlines()[-1]
        assert re.search(r"(full|no space|No space)", last), (pages, last)
        assert "free space" in last, (pages, last)
        counts[f"first not written: {_what(last)}"] += 1
    if not (book / "runs" / name / "events").exists():
        again = forked.run(book, *args)
        assert again.returncode == 0, again.said()
        counts["not begun: the same command"] += 1
    finish(book, name, "whole")
    counts["ended in the same weights and losses"] += 1


def _what(sentence: str) -> str:
    found = re.search(r"cannot (?:write to|\w+) (?:events in )?(\S+)", sentence)
    if found is None:
        return "a checkpoint, refused before its first byte" if "checkpoint" in sentence else "?"
    path = Path(found.group(1).rstrip(";:"))
    name = re.sub(r"\d+", "N", path.name)
    return "the token cache" if "cache" in path.parts else name


def main() -> int:
    """Fill the disk so often as asked."""
    options = arguments(__doc__, 60, writes=True).parse_args()
    if sys.platform != "linux" or os.geteuid() != 0:
        print("full_disk: left out, a tmpfs can only be mounted by root on Linux")
        return 0
    forked.prepare()
    rng = random.Random(options.seed)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(scratch())
        try:
            disk = stack.enter_context(small_disk(folder / "disk"))
        except PermissionError as error:
            print(f"full_disk: left out, no tmpfs can be mounted here ({error})")
            return 0
        counts = stack.enter_context(reported("full_disk", options))
        book = toy.make_book(disk)
        shutil.move(book / "toy", folder / "toy")
        os.symlink(folder / "toy", book / "toy")
        empty = used(disk)
        whole_run(book, "whole", **LENGTH, **ACCEPT)
        most = (used(disk) - empty) // PAGE
        cache = book / ".tunebook" / "cache"
        aside = paused_run(book, "full", 6, **LENGTH, **ACCEPT)
        kept = shutil.move(aside, folder / "full")
        shutil.rmtree(book / "runs" / "full")
        print(f"a whole run takes {most} pages of {PAGE} bytes", flush=True)
        for number in range(options.count):
            run = book / "runs" / "full"
            if number % 2:
                shutil.copytree(kept, run, symlinks=True)
                pages = rng.choice([rng.randrange(16), rng.randrange(most // 2)])
                one_case(book, disk, "full", ("resume", "full"), pages, counts)
            else:
                shutil.rmtree(cache, ignore_errors=True)
                pages = rng.choice([rng.randrange(32), rng.randrange(most)])
                path = book / "full.yaml"
                one_case(book, disk, "full", ("train", str(path)), pages, counts)
            shutil.rmtree(run)
            if number % 10 == 9:
                print(f"{number + 1} cases", flush=True)
        counts["cases"] = options.count
    record("R5-runs", "R5", PROMISE, options, options.count)
    return 0


if __name__ == "__main__":
    sys.exit(main())
