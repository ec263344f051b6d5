"""Ten thousand steps of one run: how its memory and its pages' memory grow (L).

    python benchmarks/faults_io/long_run.py --count 10000

A toy trains so many steps, saved and validated twenty times. The trainer's resident memory is read
ten times a second; its median over the last tenth of the steps is held against the one of the
second tenth. Growth of 5 % or more is a failure.
"""

from __future__ import annotations

import statistics
import sys
import time

import forked
import psutil
import toy
from report import arguments, reported, scratch
from safety import record

MOST = 0.05


def main() -> int:
    """Train so many steps."""
    parser = arguments(__doc__, 10_000)
    parser.add_argument("--write", action="store_true", help="into benchmarks/results/safety")
    options = parser.parse_args()
    forked.prepare()
    with scratch() as folder, reported("long_run", options) as counts:
        book = toy.make_book(folder)
        every = max(options.count // 20, 1)
        path = toy.write_run(
            book,
            "long",
            train={"max_steps": options.count},
            evaluate={"every": every},
            checkpoint={"every": every, "keep": 2},
        )
        command = forked.Command(book, ("train", str(path)))
        seen: list[int] = []
        while command.poll() is None:
            trainer = command.trainer()
            if trainer is not None and list((book / "runs/long").glob("checkpoints/step-*")):
                try:
                    seen.append(psutil.Process(trainer).memory_info().rss)
                except psutil.Error:
                    break
            time.sleep(0.1)
        assert command.wait() == 0, command.said()
        tenth = max(len(seen) // 10, 1)
        first, last = statistics.median(seen[tenth : 2 * tenth]), statistics.median(seen[-tenth:])
        growth = last / first - 1
        print(f"memory grew by {100 * growth:.2f} % over {options.count:,} steps")
        counts["steps"] = options.count
        failed = int(growth >= MOST)
    record("L", "L", "The memory of a training process does not grow with its steps", options,
           options.count, failed)  # fmt: skip
    return failed


if __name__ == "__main__":
    sys.exit(main())
