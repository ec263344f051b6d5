"""Kill -9 launcher or training process at random moments, resume, until the run is done (R1).

    python benchmarks/faults_io/kills.py --count 1000 --seed 0

Runs of 40 steps that save after every step are killed again and again: full, LoRA and ReLoRA
(merged every 3 steps) in turn. A kill's moment is drawn in one of two ways, half of the kills each:

- anywhere: so many seconds after the command was started, uniform up to the duration of the last
  whole attempt (2.5 s at first, at most 4 s), so plan, data, steps and the last page are hit too;
- near a save: when the n-th save of the attempt (n up to 4) opens its `.tmp-` folder, after a
  further delay, uniform up to half again a save's duration. Nothing is slowed down.

A kill counts as inside a save when the dead training process left a `.tmp-` folder behind.

After every kill: no process of the run lives on, the newest checkpoint verifies, none that was
complete before is lost, and the next attempt takes the lock and goes on. When the run is done its
weights, losses and samples are compared, bit for bit, with those of a run nobody killed.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import forked
import toy
from kept import history, is_finished, newest, weights
from report import arguments, reported, scratch
from safety import record
from toy import RELORA

MODES = ({}, {"method": "lora", "lora": {"rank": 2}}, RELORA)
PROMISES = (
    "A run that is killed is resumed until it is done and ends in the same bits",
    "Killed and resumed runs of full, LoRA and ReLoRA end in the bits of one that nobody touched",
)


def alive(pid: int) -> bool:
    """Tell whether a process lives; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Killer:
    """Draws moments and victims, and knows how long a save and an attempt take."""

    def __init__(self, rng: random.Random, counts: Counter[str]) -> None:
        self.rng, self.counts = rng, counts
        self.save_seconds, self.attempt_seconds = 0.03, 2.5

    def attempt(self, book: Path, name: str, args: tuple[str, ...]) -> bool:
        """Run one attempt and kill it; False when it was done before."""
        command = forked.Command(book, args)
        started = time.monotonic()
        near_save = self.rng.random() < 0.5
        if near_save:
            self._await_save(command, book / "runs" / name / "checkpoints")
        else:
            ends = started + self.rng.uniform(0, self.attempt_seconds)
            while command.poll() is None and time.monotonic() < ends:
                time.sleep(0.001)
        trainer = command.trainer()
        victim, word = command.pid, "the launcher"
        if trainer is not None and self.rng.random() < 0.5:
            victim, word = trainer, "the training process"
        if command.poll() is not None:
            if command.returncode != 0:
                raise AssertionError(command.said())
            self.attempt_seconds = min(time.monotonic() - started, 4.0)
            return False
        os.kill(victim, signal.SIGKILL)
        code = command.wait()
        self.counts[f"kills of {word}"] += 1
        self.counts["kills near a save" if near_save else "kills anywhere"] += 1
        self._check_dead(command, code, victim, trainer)
        if trainer is not None and any((book / "runs" / name).rglob(f".tmp-*-{trainer}")):
            self.counts["kills inside a save"] += 1
        elif trainer is None:
            self.counts["kills before the training process started"] += 1
        return True

    def _await_save(self, command: forked.Command, checkpoints: Path) -> None:
        """Wait for a save to begin, the n-th one, then for a part of its duration."""
        seen: set[str] = set()
        wanted = self.rng.randint(1, 4)
        mine = ""
        while command.poll() is None:
            if not mine:
                trainer = command.trainer()
                mine = f"-{trainer}" if trainer else ""
            try:
                open_now = {n for n in os.listdir(checkpoints) if n.startswith(".tmp-")}
            except FileNotFoundError:
                open_now = set()
            seen |= {n for n in open_now if mine and n.endswith(mine)}
            if len(seen) >= wanted:
                break
            time.sleep(0.0003)
        time.sleep(self.rng.uniform(0, 1.5 * self.save_seconds))

    def _check_dead(
        self, command: forked.Command, code: int, victim: int, trainer: int | None
    ) -> None:
        said = command.said()
        assert "Traceback" not in said, said
        assert "this is a bug" not in said, said
        if victim == command.pid:
            assert code in (-signal.SIGKILL, 0), (code, said)
        elif code != 0:
            assert code == 1, (code, said)
            assert "tunebook resume" in said, said
        started = time.monotonic()
        while trainer is not None and alive(trainer):
            assert time.monotonic() - started < 10, "the training process outlived its launcher"
            time.sleep(0.002)


def one_run(killer: Killer, book: Path, name: str, whole: str, path: Path, most: int) -> int:
    """Kill a run until it is done or was killed `most` times, then compare; gives the kills."""
    run = book / "runs" / name
    kept, n_kills = 0, 0
    while True:
        started = (run / "resolved.yaml").exists()
        args = ("resume", name) if started else ("train", str(path))
        if n_kills == most:
            command = forked.run(book, *args)
            assert command.returncode == 0, command.said()
            break
        if not killer.attempt(book, name, args):
            break
        n_kills += 1
        now = newest(book, name) if started else 0
        assert now >= kept, f"step {kept} was saved and the newest is now step {now}"
        kept = now
        if (run / "final" / "MANIFEST.json").exists() and is_finished(book, name):
            break
    assert weights(book, name) == weights(book, whole), f"{name}: the weights differ"
    assert history(book, name) == history(book, whole), f"{name}: the history differs"
    left = [p.name for p in run.rglob(".*-*") if p.name.startswith((".tmp-", ".old-", ".trash-"))]
    killer.counts["folders left behind by the dead at the end"] += len(left)
    killer.counts["runs done, weights and history bit-identical"] += 1
    shutil.rmtree(run)
    return n_kills


def median_save(book: Path, name: str) -> float:
    """Measure a save: from its first file to its folder's name."""
    folders = (book / "runs" / name / "checkpoints").glob("step-*")
    spans = sorted(
        (f / "MANIFEST.json").stat().st_mtime - (f / "config.json").stat().st_mtime
        for f in folders
        if (f / "config.json").exists()
    )
    return max(spans[len(spans) // 2], 0.005)


def main() -> int:
    """Kill so often as asked."""
    options = arguments(__doc__, 1000, writes=True).parse_args()
    forked.prepare()
    rng = random.Random(options.seed)
    with scratch() as folder, reported("kills", options) as counts:
        book = toy.make_book(folder)
        wholes = []
        for number, mode in enumerate(MODES):
            wholes.append(f"whole-{number}")
            whole = forked.run(book, "train", str(toy.write_run(book, wholes[-1], **mode)))
            assert whole.returncode == 0, whole.said()
        killer = Killer(rng, counts)
        killer.save_seconds = median_save(book, wholes[0])
        print(f"a save takes {1000 * killer.save_seconds:.0f} ms", flush=True)
        done = n_runs = 0
        try:
            while done < options.count:
                kind = n_runs % len(MODES)
                name = f"killed-{n_runs}"
                path = toy.write_run(book, name, **MODES[kind])
                most = min(options.count - done, 40)
                done += one_run(killer, book, name, wholes[kind], path, most)
                n_runs += 1
                if n_runs % 5 == 0:
                    inside = counts["kills inside a save"]
                    print(f"{done} kills, {inside} inside a save, {n_runs} runs", flush=True)
        except BaseException:
            kept = Path.cwd() / "faults-evidence"
            shutil.copytree(book, kept, symlinks=True, dirs_exist_ok=True)
            print(f"the book as it was: {kept}")
            raise
    inside = counts["kills inside a save"]
    note = f"{inside:,} of the kills left a half-written checkpoint"
    record("R1", "R1", PROMISES[0], options, done, note=note)
    record("R3", "R3", PROMISES[1], options, n_runs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
