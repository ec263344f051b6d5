"""Train the same model on the same rows with tunebook and its peers, step by step in turn.

    python benchmarks/speed/compare.py --case gpt2-124m-full-b8 [--write]
    python benchmarks/speed/compare.py --quick

Each contender is a process of its own; all have the same weights, rows, target tokens and AdamW
steps. Printed per contender: tokens/s and target tokens/s (padding counts for nothing), peak
memory, largest difference of a step's loss from the fp32 reference, and how many times as fast
tunebook is, with a 95 % interval. A contender is `name` or `name:option=value;option=value`; those
named -best have the settings that `search.py` found. `--write` keeps the result for docs/speed.md.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cases import CASES, DATA, LATER, SHAPES, Case, Work, changed, rows_needed
from lockstep import HERE, Contender, ContenderFailed, Track, race
from ratios import WARM_UP_STEPS, Ratio, ratio_of
from record import Goal, computes_in_bf16, write_result
from share import share_goals

# tunebook's own variants, by the run file's keys.
OWN = {
    "tunebook": {},
    "tunebook-bf16": {"precision": "bf16"},
    "tunebook-cached": {"lora.cache_activations": "memory"},
    "tunebook-qlora": {"method": "qlora", "precision": "bf16"},
}
PEERS = ("hf", "trl", "litgpt", "textbook")
BEST = HERE / "best"
SAME_AT_FIRST_STEP = 1e-5
# What does not compute in fp32 may be so far away.
NEAR_AT_FIRST_STEP = 4e-3
ROUNDED = {"tunebook-bf16": NEAR_AT_FIRST_STEP, "tunebook-qlora": 0.1}


def parse_contender(text: str, case: Case) -> Contender:
    """Read `name` or `name:option=value;...`; SystemExit for one that is not known."""
    name, _, said = text.partition(":")
    options = dict(_option(one) for one in said.split(";") if one)
    if name in OWN:
        return Contender(text, "tunebook", {**OWN[name], **options})
    kind = name.removesuffix("-best")
    if kind not in PEERS:
        known = ", ".join([*OWN, *PEERS, *(f"{peer}-best" for peer in PEERS[:3])])
        raise SystemExit(f"contender {text!r} is not known; there are {known}")
    found = best_settings(kind, case)["options"] if name.endswith("-best") else {}
    return Contender(text, kind, {**defaults_of(kind, case), **found, **options})


def defaults_of(kind: str, case: Case) -> dict[str, Any]:
    """Give what is said to a peer although nobody would have to.

    TRL computes in bf16 by default, for which a processor without such instructions takes tens of
    times as long.
    """
    return {"bf16": False} if kind == "trl" and not computes_in_bf16(case.device) else {}


def _option(text: str) -> tuple[str, Any]:
    key, _, value = text.partition("=")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


def best_settings(kind: str, case: Case) -> dict[str, Any]:
    """Read what `search.py` found for a peer and this case, or the one whose settings it takes.

    Raises SystemExit where nobody has searched.
    """
    for name in filter(None, (case.name, case.best_of)):
        path = BEST / f"{name}-{kind}.json"
        if path.exists():
            return {"case": name, **json.loads(path.read_bytes())}
    raise SystemExit(
        f"no best settings of {kind} for {case.name}; `python benchmarks/speed/search.py "
        f"--case {case.name} --peer {kind}` finds them"
    )


def make_work(case: Case, folder: Path, data: Path) -> Work:
    """Make model and rows in a process of their own, which takes its memory with it."""
    (folder / "spec.json").write_text(json.dumps({"case": asdict(case), "data": str(data)}))
    subprocess.run(
        [sys.executable, str(HERE / "cases.py"), str(folder / "spec.json"), str(folder)],
        check=True,
        env=Contender("", "").environment(None),
    )
    return Work.read(folder / "work.json")


def groups_of(contenders: Sequence[Contender], at_once: int) -> list[list[Contender]]:
    """Put tunebook's variants beside so many peers at a time."""
    own = [c for c in contenders if c.kind == "tunebook"]
    peers = [c for c in contenders if c.kind != "tunebook"]
    return [own + peers[i : i + at_once] for i in range(0, len(peers), at_once)] or [own]


class Comparison:
    """All races of a case: tracks of one name are pooled, ratios paired within a race."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.races: list[list[Track]] = []

    def tracks(self, name: str) -> list[Track]:
        return [t for race in self.races for t in race if t.contender.name == name]

    def names(self) -> list[str]:
        return list(dict.fromkeys(t.contender.name for race in self.races for t in race))

    def ratio(self, slower: str, faster: str, *, first: int = 0) -> Ratio | None:
        """Pool the matched steps of all races in which both took part; None without one.

        `first` steps are left out where that is more than the warm-up.
        """
        seconds: tuple[list[float], list[float]] = ([], [])
        for tracks in self.races:
            by_name = {t.contender.name: t for t in tracks}
            if slower in by_name and faster in by_name:
                for into, name in zip(seconds, (slower, faster), strict=True):
                    into += by_name[name].seconds[max(first, self._warm_up()) :]
        return ratio_of(*seconds) if seconds[0] else None

    def reference(self) -> str:
        """Name the contender whose losses the others are held against: a peer in fp32."""
        order = ("textbook", "hf", "trl", "litgpt", "tunebook")
        return min(self.names(), key=lambda n: order.index(n) if n in order else len(order))

    def loss_difference(self, name: str, steps: slice = slice(None)) -> float:
        reference = self.tracks(self.reference())[0].losses[steps]
        return max(
            abs(a - b)
            for track in self.tracks(name)
            for a, b in zip(track.losses[steps], reference, strict=True)
        )

    def speed(self, name: str, *, targets: bool) -> float:
        """Give tokens per second over all measured steps; padding is none."""
        rows = self.work.step_rows()
        counts = [sum(sum(r["target"][1:]) if targets else len(r["ids"]) for r in s) for s in rows]
        measured = range(self._warm_up(), self.work.case.steps)
        tracks = self.tracks(name)
        seconds = sum(track.seconds[step] for track in tracks for step in measured)
        return len(tracks) * sum(counts[step] for step in measured) / seconds

    def refuse_other_work(self) -> None:
        """Raise ContenderFailed where a contender starts from another loss."""
        for name in self.names():
            apart = self.loss_difference(name, slice(0, 1))
            if not apart <= self._tolerance(name):
                raise ContenderFailed(
                    f"the first loss of {name} differs by {apart:.2g} from that of "
                    f"{self.reference()}: they do not train the same"
                )

    def _tolerance(self, name: str) -> float:
        bf16 = any(t.settings.get("precision") not in ("fp32", None) for t in self.tracks(name))
        return ROUNDED.get(name, NEAR_AT_FIRST_STEP if bf16 else SAME_AT_FIRST_STEP)

    def _warm_up(self) -> int:
        return min(WARM_UP_STEPS, self.work.case.steps - 1)


COLUMNS = (
    "contender", "tokens/s", "target tokens/s", "peak GiB", "of it for training, GiB",
    "largest loss difference", "tunebook is so many times as fast",
)  # fmt: skip


def table_of(found: Comparison) -> list[list[Any]]:
    rows = []
    for name in found.names():
        tracks = found.tracks(name)
        peak = max(t.peak_bytes for t in tracks)
        above = max(t.peak_bytes - t.before_bytes for t in tracks)
        ratio = None if name == "tunebook" else found.ratio(name, "tunebook")
        rows.append(
            [
                name,
                round(found.speed(name, targets=False), 1),
                round(found.speed(name, targets=True), 1),
                round(peak / 2**30, 2),
                round(above / 2**30, 2),
                f"{found.loss_difference(name):.1e}",
                None if ratio is None else str(ratio),
            ]
        )
    return rows


def notes_of(found: Comparison) -> list[str]:
    case = found.work.case
    notes = [
        f"Losses are held against those of {found.reference()} in fp32, of which the first must "
        f"agree to {SAME_AT_FIRST_STEP:g}.",
        f"The first {WARM_UP_STEPS} steps of each process are left out of times and ratios. A step "
        "lasts from the end of the one before to its own, fetching rows included; the order turns "
        "round from step to step.",
    ]
    others = [name for name in found.names() if name != "tunebook"]
    ratios = {name: found.ratio(name, "tunebook") for name in others}
    said = ", ".join(f"{n} {ratio.median_step:.2f}" for n, ratio in ratios.items() if ratio)
    if said:
        notes.append(
            "Speeds and ratios are of the measured steps together. The median of single steps, in "
            f"which one with a long row to pad to counts like any other: {said}."
        )
    for name in found.names():
        settings = {**found.tracks(name)[0].settings, **found.tracks(name)[0].contender.options}
        said = ", ".join(f"{k} {json.dumps(v)}" for k, v in settings.items())
        notes.append(f"{name}: {said}.")
    for name in found.names():
        if name.endswith("-best"):
            tried = best_settings(name.removesuffix("-best"), case)
            what = "; ".join(f"{one['change']} {one['speed']}" for one in tried["tried"])
            notes.append(
                f"Tried for {name} in {tried['case']}, speed against its defaults "
                f"({tried['where']}): {what}."
            )
    kinds = {track.contender.kind for tracks in found.races for track in tracks}
    if "trl" in kinds and not computes_in_bf16(case.device):
        notes.append(
            "TRL's default bf16 is set to fp32, on this processor many times as fast and what the "
            "others compute in; all else of trl is its default, gradient checkpointing included."
        )
    if "tunebook-bf16" in case.contenders and "tunebook-bf16" not in found.names():
        notes.append(
            "bf16 was not measured, and its goals neither: this processor has no such instructions."
        )
    if any(not t.peak_is_of_training for race in found.races for t in race):
        notes.append("Peaks include loading: this system cannot reset them.")
    return notes


def _first(what: str, case: Case) -> int:
    """Give how many steps a goal leaves out: of later epochs the first one's."""
    return (case.rows or 0) // case.batch if what == LATER else 0


def goals_of(found: Comparison) -> list[Goal]:
    goals, there = [], found.names()
    if found.work.case.device != "cpu":
        return []  # those of the cases are a processor's
    for what, faster, slower, wanted in found.work.case.goals:
        if faster not in there or slower not in there:
            continue
        if what == "memory":
            peaks = [max(t.peak_bytes for t in found.tracks(name)) for name in (slower, faster)]
            name = f"peak memory of {slower} over that of {faster}"
            goals.append(Goal(name, wanted, round(peaks[0] / peaks[1], 3)))
        elif what == "loss":
            apart = found.loss_difference(faster)
            goals.append(Goal(f"loss of {faster}, furthest from fp32", wanted, apart,
                              at_most=True, unit="nats"))  # fmt: skip
        elif (
            ratio := found.ratio(slower, faster, first=_first(what, found.work.case))
        ) is not None:
            name = f"speed of {faster} over that of {slower}"
            name += ", epochs after the first" if what == LATER else ""
            goals.append(Goal(name, wanted, round(ratio.value, 3), ratio.low, ratio.high))
    return goals


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for row in rows:
        print("| " + " | ".join("" if cell is None else str(cell) for cell in row) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--case", choices=[c for c in CASES if c != "quick"])
    parser.add_argument("--quick", action="store_true", help="a tiny model, in seconds")
    parser.add_argument("--contenders", help="separated by commas; by default those of the case")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--repeats", type=int, default=1, help="fresh processes so many times")
    parser.add_argument("--shape", choices=list(SHAPES))
    parser.add_argument("--batch", type=int)
    parser.add_argument("--rows", type=int, help="different rows; by default every row once")
    parser.add_argument("--data", type=Path, default=DATA, help="the data's folder, or a file")
    parser.add_argument("--device", choices=("cpu", "cuda"))
    parser.add_argument("--peers-at-once", type=int, default=2, help="beside tunebook, by memory")
    parser.add_argument("--threads", type=int, help="of every contender; by default theirs")
    parser.add_argument("--python-of", action="append", default=[], metavar="KIND=PATH")
    parser.add_argument("--write", action="store_true", help="into benchmarks/results/speed")
    asked = parser.parse_args()
    if not asked.case and not asked.quick:
        parser.error("name a --case, or say --quick")
    case = changed(
        CASES["quick" if asked.quick else asked.case],
        steps=asked.steps, shape=asked.shape, batch=asked.batch, rows=asked.rows,
        device=asked.device,
    )  # fmt: skip
    named = asked.contenders.split(",") if asked.contenders else list(case.contenders)
    if not asked.contenders and not computes_in_bf16(case.device):
        named = [name for name in named if name != "tunebook-bf16"]
    contenders = [parse_contender(name, case) for name in named]
    pythons = dict(one.split("=", 1) for one in asked.python_of)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = Comparison(make_work(case, folder, asked.data))
        try:
            for repeat in range(asked.repeats):
                for place, group in enumerate(groups_of(contenders, asked.peers_at_once)):
                    at = folder / f"{repeat}-{place}"
                    found.races.append(
                        race(found.work, group, at, threads=asked.threads, pythons=pythons)
                    )
            found.refuse_other_work()
        except ContenderFailed as failed:
            raise SystemExit(str(failed)) from None
        report(found, asked)


def report(found: Comparison, asked: argparse.Namespace) -> None:
    """Print the table and its notes, and keep them where that was asked for."""
    case, rows, notes = found.work.case, table_of(found), notes_of(found)
    print_table(COLUMNS, rows)
    print("\n" + "\n".join(notes))
    if not asked.write:
        return
    versions: dict[str, str] = {}
    for tracks in found.races:
        for track in tracks:
            versions |= track.versions
    goals = goals_of(found)
    if case.device == "cpu" and case.method == "full" and case.shape.endswith("124m"):
        speeds = {row[0]: (row[1], row[2]) for row in rows}
        shares, ceiling = share_goals(found.work, speeds)
        goals, notes = goals + shares, [*notes, ceiling]
    lengths = [len(row["ids"]) for step in found.work.step_rows()[: case.steps] for row in step]
    write_result(
        case.name,
        title=f"{case.shape}, {case.method}, batch {case.batch}",
        command=shlex.join(["python", "benchmarks/speed/compare.py", *sys.argv[1:]]),
        settings={
            "optimizer": f"AdamW, constant rate {case.learning_rate:g}, no decay, gradient norm "
            f"clipped at {case.max_grad_norm:g}",
            "weights": "random, of a fixed seed, dropout 0, fp32",
            "rows": f"Alpaca, {case.batch} a step, {min(lengths)} to {max(lengths)} tokens, mean "
            f"{statistics.fmean(lengths):.0f}, loss on answers only"
            + (f", {rows_needed(case)} rows again and again" if case.rows else ""),
            "steps": f"{case.steps} of {asked.repeats} process(es) each",
            "threads": asked.threads or "as many as cores",
        },
        columns=COLUMNS,
        rows=rows,
        notes=notes,
        goals=goals,
        versions=versions,
    )


if __name__ == "__main__":
    main()
