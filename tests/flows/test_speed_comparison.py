from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = ("cases", "compare", "contender", "lockstep", "own", "ratios", "record", "textbook")


@pytest.fixture
def speed(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks" / "speed"))
    import compare
    import lockstep

    # Contenders as threads: importing torch anew in each process would take most of the time.
    here = SimpleNamespace(
        Popen=ContenderThread, PIPE=subprocess.PIPE, run=lambda command, **_: make(command)
    )
    monkeypatch.setattr(lockstep, "subprocess", here)
    monkeypatch.setattr(compare, "subprocess", here)
    yield compare
    for name in MODULES:
        sys.modules.pop(name, None)


class ContenderThread:
    """Stands for the process of a contender, of whose command line it takes what it needs."""

    def __init__(self, command: list[str], **_: Any) -> None:
        ends = [os.pipe(), os.pipe()]
        self.stdin, self.stdout = os.fdopen(ends[0][1], "w"), os.fdopen(ends[1][0])
        arguments = (command, ends[0][0], ends[1][1])
        self._thread = threading.Thread(target=self._serve, args=arguments, daemon=True)
        self._thread.start()

    def _serve(self, command: list[str], read: int, write: int) -> None:
        from cases import Work
        from contender import Turns, serve

        asked = json.loads(command[3])
        with os.fdopen(read) as reader, os.fdopen(write, "w") as writer:
            work = Work.read(Path(command[2]))
            serve(work, asked["kind"], asked["options"], Turns(reader, writer))

    def poll(self) -> int | None:
        return None

    def kill(self) -> None:
        self.stdin.close()

    def communicate(self) -> None:
        self._thread.join(30)
        self.stdout.close()


def make(command: list[str]) -> None:
    from cases import Case, make_files

    asked = json.loads(Path(command[2]).read_bytes())
    folder = Path(command[3])
    make_files(Case(**asked["case"]), folder, Path(asked["data"])).write(folder / "work.json")


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.json"
    words = ("a", "blue", "kettle", "sings", "over", "every", "quiet", "hill")
    found = [
        {
            "instruction": f"Say it {i} times.",
            "input": "",
            "output": " ".join(words[j * (i + 1) % 8] for j in range(i % 9 + 2)),
        }
        for i in range(40)
    ]
    path.write_text(json.dumps(found))
    return path


def test_contenders_agree_on_targets_and_losses_and_the_ratio_is_told(
    speed: ModuleType, rows: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    arguments = ["--quick", "--steps", "8", "--contenders", "tunebook,textbook"]
    monkeypatch.setattr(sys, "argv", ["compare.py", *arguments, "--data", str(rows)])
    speed.main()
    lines = {line.split(" | ")[0]: line for line in capsys.readouterr().out.splitlines()}
    cells = [cell.strip() for cell in lines["| textbook"].split("|")]
    assert float(lines["| tunebook"].split("|")[6]) < 1e-5
    assert cells[7].endswith("6 steps)")
    assert " to " in cells[7]


def test_a_contender_that_trains_something_else_is_refused(speed: ModuleType) -> None:
    from lockstep import Contender, ContenderFailed, Track

    found = speed.Comparison(SimpleNamespace(case=speed.CASES["quick"]))
    first = Track(Contender("textbook", "textbook"), losses=[3.0, 2.0])
    other = Track(Contender("hf", "hf"), losses=[3.0001, 2.0])
    found.races = [[first, other]]
    with pytest.raises(ContenderFailed, match=r"first loss of hf differs by 0\.0001"):
        found.refuse_other_work()


def test_the_interval_of_a_ratio_covers_the_true_one_as_often_as_it_says(
    speed: ModuleType,
) -> None:
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        noise = generator.lognormal(0, 0.3, (2, 18))
        ratio = speed.ratio_of(3 * noise[0], noise[1])
        covered += ratio.low <= 3 <= ratio.high
    assert covered / 400 >= 0.93
