"""A few seconds of every fault: kills, signals, damage, a full disk (part of `make test`).

    python benchmarks/faults_io/short.py --count 6 --seed 0

`--count` is the number of kills; what the other scripts do at length is done to one run of 20
steps, set aside at step 6. The book lies on a tmpfs where one can be mounted, and only then is the
disk filled.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import sys
from pathlib import Path

import damage
import forked
import full_disk
import kill_points
import toy
from kept import newest, paused_run, put_back, whole_run
from kills import Killer, one_run
from report import arguments, reported, scratch
from signals import check_signal

LENGTH = {"train": {"max_steps": 20}, "evaluate": {"every": 4}, "checkpoint": {"keep": 2}}
DAMAGES, RESUMES, POINTS = 60, 2, 3


def main() -> int:
    """Do a little of everything."""
    options = arguments(__doc__, 6).parse_args()
    forked.prepare()
    rng = random.Random(options.seed)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(scratch())
        disk = None
        try:
            disk = stack.enter_context(full_disk.small_disk(folder / "disk"))
        except (PermissionError, FileNotFoundError) as error:
            print(f"short: no disk filled, no tmpfs can be mounted here ({error})")
        counts = stack.enter_context(reported("short", options))
        book = toy.make_book(disk or folder)
        shutil.move(book / "toy", folder / "toy")
        (book / "toy").symlink_to(folder / "toy")
        whole_run(book, "whole", **LENGTH)
        aside = paused_run(book, "run", 6, **LENGTH)

        killer, n_kills = Killer(rng, counts), 0
        while n_kills < options.count:
            put_back(book, aside)
            n_kills += one_run(killer, book, "run", "whole", Path(), options.count - n_kills)

        put_back(book, aside)
        cases = damage.cases(book, "run", rng)
        for case in cases[:DAMAGES]:
            damage.check_named(book, "run", case)
        counts["damaged files named"] = DAMAGES
        for number in range(RESUMES):
            case = rng.choice(damage.one_of_a_kind(cases))
            damage.check_resume(book, aside, case, "whole", everywhere=number == 1)
            counts["resumed from a damaged checkpoint"] += 1

        for case in ("SIGHUP", "SIGINT twice", "SIGSTOP and SIGCONT", "a closed output"):
            check_signal(book, aside, "whole", case, rng, counts)
            counts["signals"] += 1

        put_back(book, aside)
        calls = kill_points.count_by_hook(book, "run")
        for number in rng.sample(range(1, len(calls) + 1), POINTS):
            put_back(book, aside)
            kill_points.kill_by_hook(book, "run", number, after=bool(number % 2))
            assert newest(book, "run") >= 6
            counts["killed at a call of a save"] += 1

        if disk is not None:
            put_back(book, aside)
            full_disk.one_case(book, disk, "run", ("resume", "run"), 40, counts)
            counts["disks filled"] += 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
