"""Import somebody else's logs that are broken in every way.

    python benchmarks/fuzz/imports.py --count 3000 --seed 0

`tunebook import` is run on harmed logs of the Trainer, LLaMA-Factory, W&B, Trackio, TensorBoard,
CSV and Markdown. A log that is taken makes a run that can be listed and shown.
"""

from __future__ import annotations

import json
import os
import random
import sqlite3
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from harness import Target, Wordless, arguments, command, fuzz, one_sentence
from mutate import mutate_bytes, mutate_value

STATE = {
    "best_global_step": 20,
    "max_steps": 40,
    "train_batch_size": 8,
    "num_train_epochs": 2,
    "log_history": [
        *[
            {
                "step": n,
                "epoch": n / 20,
                "loss": 3 - n / 40,
                "grad_norm": 1.0,
                "learning_rate": 1e-4,
            }
            for n in range(1, 41)
        ],
        {"step": 40, "eval_loss": 2.1},
        {"step": 40, "train_runtime": 12.5, "train_loss": 2.2},
    ],
}
ROWS = [{"_step": n, "train/loss": 3 - n / 40, "_runtime": n * 0.5} for n in range(40)]
FACTORY = [{"current_steps": n, "total_steps": 40, "loss": 2.0, "lr": 1e-4} for n in range(1, 41)]
CSV = "step,loss,val_loss\n" + "".join(
    f"{n},{3 - n / 40},{'' if n % 5 else 2.5}\n" for n in range(40)
)
TABLE = "| run | lr | val loss |\n|---|---|---|\n| a | 1e-4 | 2.1 |\n| b | 3e-4 | 1.9 |\n"


@cache
def trackio() -> bytes:
    """Make a small project of Trackio."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "p.db"
        base = sqlite3.connect(path)
        base.execute("CREATE TABLE metrics (id INTEGER PRIMARY KEY, run_name, step, metrics)")
        base.execute("CREATE TABLE configs (run_name, config)")
        for n in range(20):
            base.execute(
                "INSERT INTO metrics (run_name, step, metrics) VALUES (?, ?, ?)",
                ("r", n, json.dumps({"loss": 2.0 - n / 40})),
            )
        base.execute("INSERT INTO configs VALUES ('r', '{\"learning_rate\": 0.1}')")
        base.commit()
        base.close()
        return path.read_bytes()


def draw(pool: list[Any], rng: random.Random) -> dict[str, Any]:
    """Make a log."""
    kind = rng.randrange(7)
    if kind == 5:
        return {"name": "project.db", "raw": mutate_bytes(trackio(), rng)}
    if kind == 6:
        return {"name": "table.md", "raw": mutate_bytes(TABLE.encode(), rng)}
    if kind == 4:
        return {"name": "log.csv", "raw": mutate_bytes(CSV.encode(), rng)}
    name, tree = [
        ("trainer_state.json", STATE),
        ("history.json", ROWS),
        ("wandb-history.jsonl", ROWS),
        ("trainer_log.jsonl", FACTORY),
    ][kind]
    changed: Any = tree
    for _ in range(rng.randrange(4)):
        changed = mutate_value(changed, rng.choice(pool), rng)
    if name.endswith(".jsonl") and isinstance(changed, list):
        text = "\n".join(json.dumps(row, default=str) for row in changed)
    else:
        text = json.dumps(changed, default=str)
    raw = text.encode("utf-8", "surrogatepass")
    return {"name": name, "raw": mutate_bytes(raw, rng) if rng.random() < 0.5 else raw}


def run(place: Path, case: dict[str, Any]) -> str:
    """Import it, and look at what came of it."""
    from tunebook.book.places import create_book, list_runs

    book = create_book(place / "book")
    (place / case["name"]).write_bytes(case["raw"])
    os.chdir(book)

    def named(code: int, _out: str, error: str) -> None:
        if code and case["name"] not in error:
            raise Wordless(f"no file is named: {error}")

    said = one_sentence("import", str(place / case["name"]), "--name", "far", seen=named)
    for one in list_runs(book):
        one_sentence("show", one.name)
    code, out, error = command("runs")
    if code or "Traceback" in out + error:
        raise Wordless(f"runs: {error[-300:]}")
    return said


TARGET = Target(
    "imports",
    "Somebody else's log is imported or refused in one sentence that names the file",
    ("9",),
    draw,
    run,
    mended=(
        "A step beyond 64 bits ended the import in a TypeError.",
        "A refusal about columns did not name the file.",
        "One line of a Markdown table could hold an import up for ever.",
    ),
)

if __name__ == "__main__":
    options = arguments(__doc__, 3000)
    import tunebook.cli.runs
    import tunebook.cli.show  # noqa: F401

    __import__("tunebook.cli.import")
    trackio()
    sys.exit(fuzz(TARGET, options))
