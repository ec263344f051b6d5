"""Make the runs of the fault benchmark and write their logs.

    python benchmarks/faults/generate.py --split tuning --data ../shared/data --out FOLDER

A run that is in FOLDER/parts is not made again; `--only` names substrates or faults.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

os.environ.setdefault("OMP_NUM_THREADS", "1")

from logs import FOLDER, LoggedRun, read_logs, write_logs

SEEDS = {"tuning": 1, "scoring": 2, "confirming": 1}
HEALTHY = {"tuning": 12, "scoring": 22, "confirming": 22}
"""Runs per fault, strength and substrate; healthy runs per substrate."""


@dataclass(frozen=True)
class Task:
    """A run to be made; `fault` is None of a healthy one, `number` tells runs of a cell apart."""

    split: str
    substrate: str
    fault: str | None
    strength: int
    number: int

    @property
    def name(self) -> str:
        """What the run is called."""
        from inject import STRENGTHS

        parts = (self.fault, STRENGTHS[self.strength]) if self.fault else ("healthy",)
        return "-".join([self.substrate, *parts, str(self.number)])

    @property
    def seed(self) -> int:
        """A seed of its own; those of the two splits cannot meet."""
        number = crc32(f"{self.split} {self.name}".encode()) % 10**6
        return number + 10**6 * list(SEEDS).index(self.split)


def tasks(split: str) -> list[Task]:
    """List the runs of a split, those of one substrate together, first seeds before second ones."""
    from inject import FAULTS
    from substrates import SUBSTRATES

    found = []
    for name, substrate in SUBSTRATES.items():
        # What confirms has the models and data of scoring, and seeds of its own.
        if substrate.split != ("scoring" if split == "confirming" else split):
            continue
        found += [
            Task(split, name, fault, strength, number)
            for number in range(1, SEEDS[split] + 1)
            for fault in FAULTS
            for strength in range(3)
        ]
        found += [Task(split, name, None, 0, n) for n in range(1, HEALTHY[split] + 1)]
    # What is there when it is stopped early is then of all faults: clear ones and healthy runs
    # first, second seeds last.
    turn = {1: 0, 0: 1, 2: 2}
    return sorted(
        found,
        key=lambda t: (0, t.number > 6) if t.fault is None else (t.number - 1, turn[t.strength]),
    )


def make(task: Task, data: Path, cache: Path) -> LoggedRun | None:
    """Make a run; None where the fault makes no sense, or no set-up came out healthy."""
    import numpy as np
    from healthy import healthy, usual
    from inject import FAULTS, STRENGTHS
    from runs import is_healthy, make_log

    material = _material(task.substrate, data, cache)
    if task.fault is None:
        for again in range(8):
            setup = healthy(material, task.number, task.seed + 10**7 * again)
            log = make_log(setup)
            wrong = is_healthy(log)
            if wrong is None:
                return LoggedRun(
                    task.name, task.split, task.substrate, setup.seed, *[None] * 5, (), log
                )
            print(f"{task.name}, seed {setup.seed}: set up again, for {wrong}", flush=True)
        return None
    fault = FAULTS[task.fault]
    for again in range(8):
        setup = usual(material, task.seed)
        setup.learning_rate *= 1.4**again
        if not fault.makes_sense(setup):
            return None
        generator = np.random.default_rng([task.seed, 9])
        k = int(generator.integers(setup.steps // 4, setup.steps * 3 // 4))
        window = fault.inject(setup, task.strength, k)
        log = make_log(setup)
        if fault.shows(log):
            break
        print(f"{task.name}: made again with a higher learning rate", flush=True)
    else:
        return None
    return LoggedRun(
        task.name,
        task.split,
        task.substrate,
        setup.seed,
        task.fault,
        fault.kind,
        STRENGTHS[task.strength],
        max(1, window.found(log) if window.found else window.first),
        window.last,
        tuple(log.steps[window.first - 1].examples[slot].id for slot in window.slots),
        log,
    )


_materials: dict[str, object] = {}


def _material(name: str, data: Path, cache: Path):  # type: ignore[no-untyped-def]
    from substrates import SUBSTRATES, load_material

    if name not in _materials:
        _materials[name] = load_material(SUBSTRATES[name], data, cache)
    return _materials[name]


def _work(given: tuple[Task, Path, Path, Path]) -> tuple[str, float]:
    task, data, cache, part = given
    import torch

    torch.set_num_threads(1)
    started = time.monotonic()
    run = make(task, data, cache)
    part.parent.mkdir(parents=True, exist_ok=True)
    held = part.with_suffix(f".{os.getpid()}")
    write_logs(held, [] if run is None else [run])
    held.rename(part)
    return task.name, time.monotonic() - started


def _missing(wanted: list[Task], parts: Path) -> Iterator[tuple[Task, Path]]:
    for task in wanted:
        part = parts / task.split / task.substrate / f"{task.name}.npz"
        if not part.is_file():
            yield task, part


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--split", choices=list(SEEDS), required=True)
    parser.add_argument("--data", type=Path, required=True, help="the folder of real data")
    parser.add_argument("--out", type=Path, required=True, help="where single runs are kept")
    parser.add_argument("--logs", type=Path, default=FOLDER, help="where the packed logs go")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=[], help="substrates or faults (or healthy)")
    parser.add_argument("--strengths", nargs="*", type=int, default=[0, 1, 2])
    given = parser.parse_args()
    wanted = [
        t
        for t in tasks(given.split)
        if t.strength in given.strengths or t.fault is None
        if not given.only
        or all(
            not set(given.only) & names or name in given.only
            for names, name in (
                ({x.substrate for x in tasks(given.split)}, t.substrate),
                ({x.fault or "healthy" for x in tasks(given.split)}, t.fault or "healthy"),
            )
        )
    ]
    parts, cache = given.out / "parts", given.out / "bases"
    todo = list(_missing(wanted, parts))
    for name in {task.substrate for task, _ in todo}:
        _material(name, given.data, cache)  # bases are made once, before they are shared
    started = time.monotonic()
    jobs = [(task, given.data, cache, part) for task, part in todo]
    with multiprocessing.get_context("spawn").Pool(given.workers) as pool:
        for done, (name, seconds) in enumerate(pool.imap_unordered(_work, jobs), start=1):
            passed = time.monotonic() - started
            print(f"{done}/{len(jobs)} {name}: {seconds:.1f} s, {passed:.0f} s so far", flush=True)
    pack(given.split, parts, given.logs)


def pack(split: str, parts: Path, logs: Path) -> None:
    """Put single runs together, one file per substrate."""
    for folder in sorted((parts / split).iterdir()):
        runs = [run for path in sorted(folder.glob("*.npz")) for run in read_logs(path)]
        if runs:
            path = logs / split / f"{folder.name}.npz"
            write_logs(path, runs)
            print(f"{path}: {len(runs)} runs, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
