"""A book of many long runs, written by hand: the files just as a trainer leaves them.

    python benchmarks/web/made.py FOLDER --runs 200 --steps 20000

Every run has a spike of one step in its loss at a place of its own, a validation, a sample and a
look of the detectors every twentieth of the way, a recipe with every value, a seal and an
evaluation. 200 runs of 20,000 steps are about 4.4 GB, written in about a minute.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from pathlib import Path
from typing import Any

import orjson

from tunebook.book.atomic import write_text
from tunebook.book.codec import to_plain
from tunebook.book.evaluations import write_result
from tunebook.book.places import RunFolder, create_book
from tunebook.book.seal import seal
from tunebook.recipe.load import dump_resolved, recipe_from_mapping
from tunebook.records import Diagnosis, Evaluation, Sample, ValidationRecord, Verdict

SPIKE = 50.0
"""The loss of one step of each run; every other is below 5."""
LOOKS = 20
_TIME = "2026-11-21T12:00:00.000Z"
_STEP = (
    '{{"kind":"step","seq":{seq},"attempt":1,"time":"{time}","step":{step},"epoch":{epoch:.6f},'
    '"loss":{loss:.15f},"loss_sum":{sum:.12f},"target_tokens":160,"tokens":320,'
    '"padding_tokens":0,"learning_rate":{rate:.12f},"grad_norm":{norm:.15f},"clipped":false,'
    '"applied":true,"update_ratio":0.000520521281136437,"changed_fraction":1.0,"examples":['
    + ",".join(
        f'{{{{"id":"sayings#{{row{n}}}","loss_sum":{{each:.14f}},"target_tokens":20}}}}'
        for n in range(8)
    )
    + '],"lengths":[40,40,40,40,40,40,40,40],"sources":{{"sayings":320}},"canary_loss":null,'
    '"seconds":0.16301517000829335,"memory_bytes":617050112,"padding_target_tokens":0}}\n'
)


def spike_of(number: int, steps: int) -> int:
    """Say at which step the run of a number has its spike."""
    return random.Random(number).randint(1, steps)


def make_book(folder: Path, runs: int, steps: int) -> Path:
    """Write a book with runs `run-000`, `run-001`, ..."""
    book = create_book(folder)
    values = {"model": "tunebook/tiny", "data": [{"path": "/data/sayings.txt"}]}
    loaded = recipe_from_mapping(values | {"name": "NAME"}, "made", folder)
    environment = {"model_as_written": "tunebook/tiny", "inherited": loaded.inherited}
    recipe = dump_resolved(loaded.recipe, environment)
    for number in range(runs):
        run = RunFolder(book, f"run-{number:03d}")
        run.path.mkdir()
        write_text(run.run_yaml, f"name: {run.name}\nmodel: tunebook/tiny\n")
        rate = f"learning_rate: {1e-4 * (1 + number % 7):.5f}"
        text = recipe.replace("NAME", run.name)
        write_text(run.resolved_yaml, text.replace("learning_rate: 5e-05", rate))
        other = f"run-{max(number - 1, 0):03d}"
        seal(run, "More steps are not better.", [f"val_loss < {other}.val_loss", "no spike"])
        run.events.mkdir()
        (run.events / "machine-1.jsonl").write_text(_lines(number, steps))
        _evaluate(run, number)
        page = f"# {run.name}\n\n- 2026-11-21: looked at it #seen #seven-{number % 7}\n"
        write_text(run.notebook_md, page)
    return book


def _lines(number: int, steps: int) -> str:
    random_ = random.Random(number + 1)
    spike, floor = spike_of(number, steps), 1.5 + number % 13 / 10
    lines = [_event(0, "state", {"state": "running", "reason": "", "step": 0})]
    facts = {"device": "cpu", "steps": steps, "parameters": {"total": 4590848}}
    lines.append(_event(1, "facts", facts))
    for step in range(1, steps + 1):
        loss = SPIKE if step == spike else floor + 2 * math.exp(-6 * step / steps)
        loss += 0.2 * random_.random()
        seq = len(lines)
        rows = {f"row{n}": (step * 8 + n) % 997 for n in range(8)}
        lines.append(
            _STEP.format(
                seq=seq, time=_TIME, step=step, epoch=step / 1000, loss=loss, sum=loss * 160,
                rate=2e-4 * (1 - step / (steps + 1)), norm=loss / 3, each=loss * 20, **rows,
            )
        )  # fmt: skip
        if step % max(steps // LOOKS, 1) == 0 or step == steps:
            for kind, payload in _looked(step, steps, floor + 0.3, spike):
                lines.append(_event(len(lines), kind, payload))
    lines.append(_event(len(lines), "state", {"state": "finished", "reason": "", "step": steps}))
    return "".join(lines)


def _looked(step: int, steps: int, loss: float, spike: int) -> list[tuple[str, object]]:
    found = Verdict(
        "bad_batch", spike, spike, "one batch is unlike the others", "likely", {"loss": SPIKE}, ""
    )
    verdicts = (found,) if spike <= step else ()
    return [
        ("validation", ValidationRecord(
            step, loss, loss * 2000, 2000, 20, 20, 8000, "held-out", (loss - 0.1, loss + 0.1),
            {"sayings": loss}, 0.5,
        )),
        ("sample", Sample(step, "hope:", "a small light in a window", None, "greedy")),
        ("verdicts", Diagnosis(step, verdicts, ("spike", "bad_batch"), {}, step == steps)),
    ]  # fmt: skip


def _event(seq: int, kind: str, payload: object) -> str:
    line: dict[str, Any] = {"kind": kind, "seq": seq, "attempt": 1, "time": _TIME}
    return orjson.dumps(line | to_plain(payload)).decode() + "\n"


def _evaluate(run: RunFolder, number: int) -> None:
    run.evaluations.mkdir()
    score = 40.0 + number % 50
    judged = Evaluation(
        "judge", "final", "points", score, (score - 3, score + 3), 60, 0, "questions",
        {"model": "some judge", "prompt": "v1"}, {},
    )  # fmt: skip
    write_result(run, run.evaluations / "judge-final-0123abcd.jsonl", judged)


def main() -> None:
    """Make a book and say how long it took."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("folder", type=Path)
    options.add_argument("--runs", type=int, default=200)
    options.add_argument("--steps", type=int, default=20_000)
    chosen = options.parse_args()
    began = time.perf_counter()
    make_book(chosen.folder, chosen.runs, chosen.steps)
    print(f"{chosen.runs} runs of {chosen.steps} steps: {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
