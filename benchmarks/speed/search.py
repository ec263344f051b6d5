"""Find the best settings of a peer for a case on this machine, and keep them for compare.py.

    python benchmarks/speed/search.py --case gpt2-124m-full-b8 --peer hf [--shape gpt2-30m]

First every single change races against the peer's defaults, in lockstep as in compare.py; then
what won together, and with each part taken away. What is fastest is kept in `best/`, with all that
was tried. A change that trains something else, or does not run, is told and dropped.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence, Set
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cases import CASES, DATA, SHAPES, Case, Work, changed
from compare import BEST, PEERS, SAME_AT_FIRST_STEP, defaults_of, make_work
from lockstep import Contender, ContenderFailed, Track, race
from ratios import ratio_of
from record import computes_in_bf16, machine

Options = Mapping[str, Any]
WARM_UP_STEPS = 2  # compiling anew for other lengths ends after the second
# Less than this is noise, and would be a setting without a reason.
WORTH = 1.02


def layouts(batch: int) -> list[Options]:
    """Give the ways of putting a step's rows together, of which one excludes the others."""
    sizes = [size for size in (4, 2, 1) if size < batch]
    return [{"micro": size, **({"sorted": True} if size > 1 else {})} for size in sizes]


def changes_of(kind: str, case: Case) -> tuple[list[Options], list[Options]]:
    """Give the layouts and the other single changes to try for a peer."""
    layout = layouts(case.batch)
    single: list[Options] = [{"allocator": True}, {"torch_compile": True}]
    if kind == "litgpt":
        return [*layout[:-1], {"micro": case.batch}], [
            *single,
            {"head_chunk": 128},
            {"fused": True},
        ]
    layout.append({"flatten": True})
    single += [{"dataloader_num_workers": 1}, {"logging_nan_inf_filter": False}]
    if computes_in_bf16(case.device):
        single.append({"bf16": True})
    if kind == "trl":
        single.append({"gradient_checkpointing": False})
    if case.device == "cuda":
        single += [{"model_init_kwargs": {"use_kernels": True}}] if kind == "trl" else []
        single += [{"use_liger_kernel": True}] if kind == "hf" else []
    return layout, single


class Search:
    """The races of one peer; `tried` collects what is told of them."""

    def __init__(self, work: Work, kind: str, folder: Path, at_once: int, threads: int | None):
        self.work, self.kind, self.folder = work, kind, folder
        self.at_once, self.threads = at_once, threads
        self.defaults = defaults_of(kind, work.case)
        self.tried: list[dict[str, str]] = []
        self._races = 0

    def speeds(self, candidates: Sequence[Options]) -> dict[str, float]:
        """Race candidates against the defaults; how many times as fast each is, by its words."""
        found: dict[str, float] = {}
        for start in range(0, len(candidates), self.at_once):
            group = [self._contender(one) for one in candidates[start : start + self.at_once]]
            while group:
                try:
                    base, *tracks = self._race([self._contender({}), *group])
                except ContenderFailed as failed:
                    lost = [c for c in group if str(failed).startswith(f"{c.name} ")]
                    if not lost:
                        raise
                    self._tell(lost[0].name, "does not run: " + str(failed).splitlines()[0][:150])
                    group.remove(lost[0])
                    continue
                for track in tracks:
                    found |= self._hold_against(base, track)
                break
        return found

    def _contender(self, options: Options) -> Contender:
        return Contender(words(options), self.kind, {**self.defaults, **options})

    def _race(self, contenders: Sequence[Contender]) -> list[Track]:
        self._races += 1
        at = self.folder / f"race-{self._races}"
        return race(self.work, contenders, at, threads=self.threads)

    def _hold_against(self, base: Track, track: Track) -> dict[str, float]:
        name = track.contender.name
        apart = abs(track.losses[0] - base.losses[0])
        if apart > SAME_AT_FIRST_STEP and not track.contender.options.get("bf16"):
            self._tell(name, f"trains something else: the first loss differs by {apart:.1g}")
            return {}
        measured = slice(WARM_UP_STEPS, None)
        ratio = ratio_of(base.seconds[measured], track.seconds[measured]).value
        gib = (track.peak_bytes - base.peak_bytes) / 2**30
        self._tell(name, f"x{ratio:.2f}, {gib:+.1f} GiB")
        return {name: ratio}

    def _tell(self, name: str, said: str) -> None:
        self.tried.append({"change": name, "speed": said})
        print(f"{self.kind} {name}: {said}", flush=True)


def words(options: Options) -> str:
    return ", ".join(f"{key} {json.dumps(value)}" for key, value in options.items()) or "defaults"


def find_best(search: Search, skip: Set[str]) -> Options:
    """Race single changes, then those that won together and without each of them."""
    layout, single = changes_of(search.kind, search.work.case)
    single = [one for one in single if not skip & set(one)]
    by_words = {words(one): one for one in (*layout, *single)}
    speeds = search.speeds(list(by_words.values()))
    won = [one for one in single if speeds.get(words(one), 0) >= WORTH]
    best_layout = max(layout, key=lambda one: speeds.get(words(one), 0))
    if speeds.get(words(best_layout), 0) >= WORTH:
        won.append(best_layout)
    together = [_join(won), *(_join(one for one in won if one is not out) for out in won)]
    fresh = {words(one): one for one in together if words(one) not in speeds and one}
    speeds |= search.speeds(list(fresh.values()))
    by_words |= fresh
    fastest = max(speeds, key=lambda name: speeds[name], default="")
    return by_words[fastest] if speeds.get(fastest, 0) >= WORTH else {}


def _join(changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for one in changes:
        found |= one
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--case", choices=list(CASES), required=True)
    parser.add_argument("--peer", choices=PEERS[:3], required=True)
    parser.add_argument("--shape", choices=list(SHAPES), help="a smaller one, to be quicker")
    parser.add_argument("--steps", type=int, default=WARM_UP_STEPS + 3)
    parser.add_argument("--at-once", type=int, default=3, help="beside the defaults, by memory")
    parser.add_argument("--skip", default="", help="options not to try, separated by commas")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--device", choices=("cpu", "cuda"))
    asked = parser.parse_args()
    if asked.steps <= WARM_UP_STEPS:
        parser.error(f"--steps {asked.steps}: the first {WARM_UP_STEPS} are warm-up")
    case = changed(CASES[asked.case], steps=asked.steps, shape=asked.shape, device=asked.device)
    with tempfile.TemporaryDirectory() as name:
        work = make_work(case, Path(name), asked.data)
        search = Search(work, asked.peer, Path(name), asked.at_once, asked.threads)
        best = find_best(search, set(asked.skip.split(",")))
    here = machine()
    found = {
        "options": best,
        "where": f"{case.shape}, {here['processor']}, {asked.threads or here['cores']} threads, "
        f"{datetime.now(UTC):%Y-%m-%d}",
        "tried": search.tried,
    }
    BEST.mkdir(exist_ok=True)
    path = BEST / f"{asked.case}-{asked.peer}.json"
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"best: {words(best)}")


if __name__ == "__main__":
    main()
