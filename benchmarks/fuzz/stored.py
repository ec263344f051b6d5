"""Read what tunebook itself wrote, torn and damaged: events at every byte, tokens, scores, trials.

    python benchmarks/fuzz/stored.py --count 2000 --seed 0

The events of a run are cut at every byte of their file: every whole row before the cut must be
read, with each of the three readers. Then token stores, score files, logs of evaluations and lists
of trials are harmed: a store is taken for what it is or set aside with a reason, never wrong.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from harness import Lost, Target, arguments, fuzz, record
from mutate import mutate_bytes

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))


@cache
def whole() -> Path:
    """Make one of everything."""
    import numpy as np

    from made_evaluations import make_answers
    from made_runs import make_run
    from tunebook.book.checkpoints import writing_checkpoint
    from tunebook.book.places import create_book
    from tunebook.data.store import DROP_FIELDS, ROW_FIELDS, sha256_of, write_index
    from tunebook.data.store_shape import COUNTED, ids_name, target_name

    book = create_book(Path(tempfile.mkdtemp(prefix="fuzz-stored-")) / "book")
    run = make_run(book, "first")
    make_answers(run, ["one", "two"])
    store = book / "store"
    store.mkdir()
    np.arange(64, dtype="<u2").tofile(store / ids_name(0))
    np.full(8, 255, dtype=np.uint8).tofile(store / target_name(0))
    rows = np.zeros(4, dtype=ROW_FIELDS)
    rows["start"], rows["length"] = np.arange(4) * 16, 16
    rows.tofile(store / "rows.bin")
    np.zeros(0, dtype=DROP_FIELDS).tofile(store / "drops.bin")
    names = [ids_name(0), target_name(0), "rows.bin", "drops.bin"]
    hashes = {name: sha256_of(store / name) for name in names}
    facts = {"made_from": {}, "labels": ["rows"], "by_file": [False], "dropped": {}, "changed": {}}
    facts |= {"reasons": [], "idle_filters": [], **dict.fromkeys(COUNTED, 0)}
    write_index(store, np.dtype("<u2"), [64], hashes, facts)
    with writing_checkpoint(run, 2) as kept:
        (kept / "model.safetensors").write_bytes(b"weights")
        (kept / "state.json").write_text('{"step": 2}')
    return book


def draw(_pool: list[Any], rng: random.Random) -> dict[str, Any]:
    """Harm a file of one kind."""
    book = whole()
    places = {
        "store": sorted((book / "store").iterdir()),
        "answers": sorted((book / "runs" / "first" / "evaluations").glob("*.jsonl")),
        "manifest": sorted((book / "runs" / "first" / "checkpoints" / "step-2").iterdir()),
        "resolved": [book / "runs" / "first" / "resolved.yaml"],
    }
    kind = rng.choice(list(places))
    path = rng.choice(places[kind])
    raw = path.read_bytes()
    return {"kind": kind, "name": str(path.relative_to(book)), "raw": mutate_bytes(raw, rng)}


def run(place: Path, case: dict[str, Any]) -> str:
    """Read it."""
    from tunebook.book.checkpoints import newest_good_checkpoint
    from tunebook.book.evaluations import read_log
    from tunebook.book.places import RunFolder
    from tunebook.data.store import open_store
    from tunebook.recipe.load import read_resolved

    book = place / "book"
    shutil.copytree(whole(), book)
    path = book / case["name"]
    same = path.read_bytes() == case["raw"]
    path.write_bytes(case["raw"])
    first = RunFolder(book, "first")
    if case["kind"] == "store":
        store, why = open_store(book, "store")
        # A blank more between its words leaves an index what it was.
        means_the_same = same or says_the_same(whole() / case["name"], path)
        if (store is None and same) or (store is not None and not means_the_same):
            raise Lost(f"{case['name']} was {'refused' if same else 'taken'}: {why}")
        return "store: set aside with a reason" if store is None else "store: as it was"
    if case["kind"] == "manifest":
        found, problems = newest_good_checkpoint(first)
        if (found is None) == same or (found is None and not problems):
            raise Lost(f"{case['name']}: {found}, {problems}")
        return "checkpoint: as it was" if same else "checkpoint: named"
    if case["kind"] == "answers":
        read_log(path)
        return "answers: read"
    read_resolved(case["raw"].decode("utf-8", "replace"))
    return "resolved: read"


def says_the_same(one: Path, other: Path) -> bool:
    """Tell whether two files hold the same JSON."""
    try:
        return bool(json.loads(one.read_bytes()) == json.loads(other.read_bytes()))
    except ValueError:
        return False


def torn_events(most_bytes: int) -> tuple[int, int]:
    """Cut the first events of a run at every byte; gives cuts, and how many lost a whole row."""
    from tunebook.book.events import EventTail, read_events
    from tunebook.book.places import RunFolder
    from tunebook.book.reader import RunReader

    with tempfile.TemporaryDirectory() as folder:
        book = Path(folder) / "book"
        shutil.copytree(whole(), book)
        one = RunFolder(book, "first")
        (path,) = one.events.glob("*.jsonl")
        raw = path.read_bytes()
        raw = raw[: raw.rindex(b"\n", 0, most_bytes) + 1]
        lines = raw.split(b"\n")[:-1]
        kinds = [json.loads(line)["kind"] for line in lines]
        wrong = 0
        for cut in range(len(raw) + 1):
            path.write_bytes(raw[:cut])
            n_whole = raw[:cut].count(b"\n")
            n_steps = kinds[:n_whole].count("step")
            events = read_events(one)
            fine = len(events.steps) == n_steps
            fine &= len(events.validations) == kinds[:n_whole].count("validation")
            fine &= len(EventTail(one).poll()) == n_whole
            fine &= len(RunReader(one).look().steps) == n_steps
            wrong += not fine
        return len(raw) + 1, wrong


TARGET = Target(
    "stored",
    "Damaged tokens, checkpoints, answers and settings are set aside or refused with a reason, "
    "and never taken for what they were",
    ("R4",),
    draw,
    run,
    mended=(
        "A sealed token store of a stranger's book could be mapped as pointers and crash the "
        "process, or name rows outside of its files; it is numbers within its files, or set aside.",
    ),
)

if __name__ == "__main__":
    options = arguments(__doc__, 2000)
    whole()
    cuts, wrong = torn_events(8_000 if options.count >= 1000 else 1_500)
    print(f"events torn at each of {cuts:,} places: {wrong} lost a whole row")
    if options.write:
        words = "Events torn at any byte keep every whole row, for each of the three readers"
        record("torn-events", words, ("R10",), cuts, wrong, options.seed, (), {})
    code = fuzz(TARGET, options)
    shutil.rmtree(whole().parent, ignore_errors=True)
    sys.exit(code or int(wrong > 0))
