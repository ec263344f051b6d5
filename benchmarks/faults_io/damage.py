"""Damage each file of a checkpoint in every way, and see it named and an older one taken (R4).

    python benchmarks/faults_io/damage.py --count 2000 --resumes 40 --seed 0

Of a full, a LoRA and a ReLoRA run with three checkpoints each, every file of the newest one is in
turn missing, empty, cut ten times at random lengths, hit by 64 random bit flips one at a time,
swapped with every other file, and replaced by the same file of the checkpoint before, until there
are so many cases as asked. In each, `newest_good_checkpoint` (what a resume asks) must name the
damaged file and give the checkpoint before. Files with the same bytes in both checkpoints are no
case.

Some cases, drawn at random, then go through the real `tunebook resume`: exit code 0, the file
named, no traceback, and the weights of a run that nothing happened to. In some of these, all
checkpoints are damaged: the run begins anew, says so, and ends in the same weights.
"""

from __future__ import annotations

import itertools
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import forked
import toy
from kept import finish, paused_run, put_back, whole_run
from report import arguments, reported, scratch
from safety import record
from toy import RELORA

CUTS, FLIPS = 10, 64
MODES = {
    "full": {},
    "lora": {"method": "lora", "lora": {"rank": 2}},
    "relora": RELORA,
}
LENGTH = {"train": {"max_steps": 8}, "evaluate": {"every": 4}}


@dataclass(frozen=True)
class Damage:
    """One way to spoil a checkpoint; `names` are files of which one has to be named."""

    kind: str
    names: tuple[str, ...]
    spoil: Callable[[Path], None]


def damages(newest: Path, before: Path, rng: random.Random) -> Iterator[Damage]:
    """List what can happen to one checkpoint, each file in turn."""
    names = sorted(str(p.relative_to(newest)) for p in newest.rglob("*") if p.is_file())
    for name in names:
        whole = (newest / name).read_bytes()
        size = len(whole)
        yield Damage("missing", (name,), lambda at, n=name: (at / n).unlink())
        yield Damage("empty", (name,), _writing(name, b""))
        for length in rng.sample(range(1, size), min(CUTS, size - 1)):
            yield Damage("cut", (name,), _writing(name, whole[:length]))
        for bit in rng.sample(range(8 * size), min(FLIPS, 8 * size)):
            yield Damage("bit flip", (name,), _writing(name, _flipped(whole, bit)))
        older = (before / name).read_bytes()
        if older != whole:
            # A manifest of the step before is whole in itself: what it does not fit is named.
            named = tuple(names) if name == "MANIFEST.json" else (name,)
            yield Damage("of the checkpoint before", named, _writing(name, older))
    for one, other in itertools.combinations(names, 2):
        first, second = (newest / one).read_bytes(), (newest / other).read_bytes()
        if first != second:
            yield Damage("swapped", (one, other), _swapping(one, second, other, first))


def _flipped(whole: bytes, bit: int) -> bytes:
    changed = bytearray(whole)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def _writing(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content) and None


def _swapping(one: str, second: bytes, other: str, first: bytes) -> Callable[[Path], None]:
    def swap(folder: Path) -> None:
        (folder / one).write_bytes(second)
        (folder / other).write_bytes(first)

    return swap


def check_named(book: Path, name: str, damage: Damage) -> None:
    """Spoil the newest checkpoint, ask for the newest good one, and mend it again."""
    from tunebook.book.checkpoints import list_checkpoints, newest_good_checkpoint
    from tunebook.book.places import RunFolder

    run = RunFolder(book, name)
    before, newest = list_checkpoints(run)[-2:]
    aside = book / "whole-checkpoint"
    shutil.copytree(newest, aside)
    damage.spoil(newest)
    found, problems = newest_good_checkpoint(run)
    shutil.rmtree(newest)
    aside.rename(newest)
    assert found == before, (damage, found)
    assert len(problems) == 1, (damage, problems)
    assert any(f"{newest / each}" in problems[0] for each in damage.names), (damage, problems)


def check_resume(book: Path, aside: Path, damage: Damage, whole: str, everywhere: bool) -> None:
    """Spoil one checkpoint, or the newest one of all that are missing a file, and resume."""
    run = put_back(book, aside)
    checkpoints = sorted((run / "checkpoints").glob("step-*"), key=lambda p: int(p.name[5:]))
    damage.spoil(checkpoints[-1])
    if everywhere:
        for path in checkpoints[:-1]:
            (path / "state.json").unlink()
    said = finish(book, aside.name, whole)
    assert any(f"{checkpoints[-1].name}/{each}" in said for each in damage.names), (damage, said)
    assert "Traceback" not in (run / "train.log").read_text(encoding="utf-8")


def main() -> int:
    """Spoil so often as asked."""
    parser = arguments(__doc__, 2000, writes=True)
    parser.add_argument("--resumes", type=int, default=40)
    options = parser.parse_args()
    forked.prepare()
    rng = random.Random(options.seed)
    with scratch() as folder, reported("damage", options) as counts:
        book = toy.make_book(folder)
        asides: dict[str, Path] = {}
        for mode, changes in MODES.items():
            whole_run(book, f"whole-{mode}", **LENGTH, **changes)
            asides[mode] = paused_run(book, mode, 6, **LENGTH, **changes)
        done = 0
        while done < options.count:
            for mode in MODES:
                some = cases(book, mode, rng)
                for damage in some[: options.count - done]:
                    check_named(book, mode, damage)
                    counts[f"{damage.kind}: named, the checkpoint before taken"] += 1
                    done += 1
        counts["cases"] = done
        for number in range(options.resumes):
            mode = rng.choice(list(MODES))
            put_back(book, asides[mode])
            damage = rng.choice(one_of_a_kind(cases(book, mode, rng)))
            everywhere = number % 5 == 4
            check_resume(book, asides[mode], damage, f"whole-{mode}", everywhere)
            counts["resumed to the same weights"] += 1
            counts["of these from the start, all checkpoints being damaged"] += everywhere
    note = f"{options.resumes:,} more of them were resumed, bit-identically"
    record("R4", "R4", "A damaged checkpoint is named and the newest good one taken",
           options, done + options.resumes, note=note)  # fmt: skip
    return 0


def cases(book: Path, name: str, rng: random.Random) -> list[Damage]:
    """List the damages of a run's newest checkpoint in random order."""
    from tunebook.book.checkpoints import list_checkpoints
    from tunebook.book.places import RunFolder

    before, newest = list_checkpoints(RunFolder(book, name))[-2:]
    found = list(damages(newest, before, rng))
    rng.shuffle(found)
    return found


def one_of_a_kind(found: list[Damage]) -> list[Damage]:
    """Let every kind be as likely as another: nearly all cases are flips."""
    return list({damage.kind: damage for damage in found}.values())


def one_of_a_kind_and_file(found: list[Damage]) -> list[Damage]:
    """Let every file be hit in every way as often as another."""
    return list({(damage.kind, damage.names): damage for damage in found}.values())


if __name__ == "__main__":
    sys.exit(main())
