"""A thousand questions to a judge that fails three times in ten, killed meanwhile (J).

    python benchmarks/faults_io/judge_faults.py --count 1000 --seed 0

The judge is `answering.py` in a process of its own; what it answers badly is drawn by the question.
The judging process is killed three times at random moments and started again. At the end every
question has one line: its score, or missing with its fault; no question that was answered well is
without its score, none is 0 that was not given 0, and only those in flight at a kill were answered
more than once.
"""

from __future__ import annotations

import logging
import os
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path

from answering import answering
from report import arguments, reported, scratch
from safety import record

CONCURRENCY, KILLS = 8, 3


def judge_all(book: Path, url: str, n: int) -> None:
    """Judge all answers, or go on with it."""
    from tunebook.book.evaluations import open_log
    from tunebook.book.places import RunFolder
    from tunebook.evaluate.judge.asking import Task
    from tunebook.evaluate.judge.prompts import find_prompt
    from tunebook.evaluate.judge.settings import Judge
    from tunebook.workflows.judging import Bench, score_tasks

    logging.disable()
    run = RunFolder(book, "run")
    judge = Judge(base_url=url, model="m", concurrency=CONCURRENCY, retries=6, timeout_seconds=20)
    bench = Bench(judge, find_prompt("default"))
    tasks = [Task("final", f"q{i}", "h", "Why?", None, f"item-{i}.") for i in range(n)]
    with open_log(run, "judge", "final", bench.settings) as log:
        score_tasks(run, bench, tasks, {"final": log}, era=0, say=lambda _text: None)


def main() -> int:
    """Ask so often as wanted."""
    parser = arguments(__doc__, 1000)
    parser.add_argument("--write", action="store_true", help="into benchmarks/results/safety")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    wrong: list[str] = []
    with scratch() as folder, reported("judge_faults", options) as counts:
        import openai  # noqa: F401

        from tunebook.book.evaluations import read_log
        from tunebook.book.places import RunFolder, create_book

        book = create_book(folder / "book")
        (book / "runs" / "run").mkdir()
        told = folder / "answered"
        told.touch()
        with answering(0.3, told) as url:
            for number in range(KILLS + 1):
                pid = os.fork()
                if pid == 0:
                    code = 1
                    try:
                        judge_all(book, url, options.count)
                        code = 0
                    finally:
                        os._exit(code)
                enough = options.count * (number + rng.random()) / (KILLS + 1)
                while number < KILLS and len(told.read_text().splitlines()) < enough:
                    time.sleep(0.02)
                if number < KILLS:
                    os.kill(pid, signal.SIGKILL)
                    counts["kills of the judging process"] += 1
                status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                if status not in (0, -signal.SIGKILL):
                    wrong.append(f"judging ended with {status}")
        answered = Counter(told.read_text().splitlines())
        lines = [line for path in RunFolder(book, "run").evaluations.glob("judge-*.jsonl")
                 for line in read_log(path)]  # fmt: skip
        found = Counter(line["item_id"] for line in lines)
        wrong += [f"{q} has {n} lines" for q, n in found.items() if n != 1]
        wrong += [f"q{i} is lost" for i in range(options.count) if f"q{i}" not in found]
        given = {line["item_id"]: line for line in lines}
        twice = sum(n > 1 for n in answered.values())
        counts["questions"] = options.count
        counts["requests sent"] = sum(line["requests"] for line in lines)
        counts["of these with a fault"] = sum(len(line["faults"]) for line in lines)
        counts["missing"] = sum(line["value"] is None for line in lines)
        counts["answered again, having been in flight at a kill"] = twice
        wrong += [f"{q} is missing without a fault" for q, line in given.items()
                  if line["value"] is None and not line["fault"]]  # fmt: skip
        wrong += [f"{q} has {line['value']} from {line['reply']!r}" for q, line in given.items()
                  if line["value"] is not None
                  and f'"score": {line["value"]:.0f}' not in line["reply"]]  # fmt: skip
        well = sum(line["value"] is not None for line in lines)
        if len(answered) != well:
            wrong.append(f"{len(answered)} were answered well and {well} have a score")
        if twice > KILLS * CONCURRENCY:
            wrong.append(f"{twice} were asked for twice")
        counts["wrong"] = len(wrong)
        for line in wrong[:20]:
            print(line, file=sys.stderr)
    record("J", "J", "Of a judge's endpoint that fails three times in ten, and a judging process "
           "that is killed, nothing is lost, nothing is asked twice but what was in flight, and "
           "missing is not 0", options, options.count, len(wrong))  # fmt: skip
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
