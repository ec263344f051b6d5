"""Invented instructions in Alpaca's form, scores with a stated mean, and a table of sixteen runs.

Two kinds of instructions: those with a rule (plurals, first letters), and questions about towns
that do not exist, of which nothing can be known but what is said. The table holds the numbers of
notebook 002, as facts; no word of it.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

EMBEDDED = Path(__file__).parents[2] / "src/tunebook/embedded/data"
NOUNS = (
    *("bench", "lamp", "river", "window", "candle", "ladder", "basket", "bridge", "garden"),
    *("button", "ribbon"),
)
PLURALS = {"bench": "benches"}
SYLLABLES = ("bar", "ul", "ven", "mor", "tas", "kel", "din", "far", "os", "lin", "gret", "wick")
GOODS = ("wool", "salt", "glass", "rope", "honey", "slate", "apples", "bells", "paper", "tin")
# run, model, batch, epochs, rate, least rate, warm-up, rank, alpha, loss, perplexity, judge
RUNS = (
    ("run_1", "M-(355M)", 2, 1, "5e-5", "-", "-", "-", "-", 1.519, 4.569, "33.39"),
    ("run_2", "L-(774M)", 2, 1, "5e-5", "-", "-", "-", "-", 1.591, 4.911, "33.06"),
    ("run_3", "XL-(1558M)", 2, 1, "5e-5", "-", "-", "-", "-", 1.602, 4.963, "41.55"),
    ("run_4", "L-(774M)", 2, 1, "5e-5", "1e-5", "0.2", "-", "-", 1.417, 4.125, "51.80"),
    ("run_5", "M-(355M)", 2, 1, "5e-5", "1e-5", "0.2", "-", "-", 1.448, 4.255, "32.55"),
    ("run_6", "L-(774M)", 2, 1, "5e-5", "1e-5", "0.2", "-", "-", 1.436, 4.203, "41.91"),
    ("run_10", "M-(355M)", 2, 1, "5e-5", "1e-5", "0.2", 16, 16, 1.484, 4.411, "28.65"),
    ("run_11", "L-(774M)", 2, 1, "5e-5", "1e-5", "0.2", 16, 16, 1.402, 4.063, "34.53"),
    ("run_12", "M-(355M)", 4, 1, "5e-5", "1e-5", "0.2", 16, 16, 1.388, 4.007, "32.46"),
    ("run_13", "M-(355M)", 2, 1, "5e-5", "1e-5", "0.2", 16, 32, 1.509, 4.523, "21.22"),
    ("run_14", "M-(355M)", 2, 1, "5e-5", "1e-5", "0.2", 32, 32, 1.498, 4.472, "25.27"),
    ("run_15", "M-(355M)", 4, 1, "5e-5", "1e-5", "0.2", 64, 64, 1.844, 6.319, "14.80"),
    ("run_16", "M-(355M)", 4, 1, "2.5e-5", "1e-5", "0.3", 64, 64, 1.470, 4.350, "28.14"),
    ("run_17", "M-(355M)", 4, 1, "3e-5", "1e-5", "0", 64, 64, 1.560, 4.760, "31.53"),
    ("run_18", "M-(355M)", 4, 1, "1e-4", "1e-5", "0", 64, 64, 3.974, 53.202, "-"),
    ("run_19", "M-(355M)", 4, 2, "5e-5", "1e-5", "0.2", 16, 16, 1.378, 3.967, "36.35"),
)
COLUMNS = (
    *("run_name", "model_sz", "batch_sz", "n_epochs", "lr", "min_lr", "warmup", "rank", "alpha"),
    *("loss", "perplex", "gemini_eval"),
)
BASES = (("gpt2-medium (355M)", 21.14), ("gpt2-large (774M)", None), ("gpt2-xl (1558M)", 18.58))


def with_a_rule(noun: str) -> list[dict[str, str]]:
    """Ask what follows from the words alone."""
    many = PLURALS.get(noun, f"{noun}s")
    return [
        _row("Give the plural of this word.", f"The plural of {noun} is {many}.", noun),
        _row(f"What is the first letter of {noun}?", f"The first letter of {noun} is {noun[0]}."),
    ]


def about_a_town(draw: random.Random, town: str) -> list[dict[str, str]]:
    """Ask what only these rows can tell."""
    good = draw.choice(GOODS)
    people, year, steps = draw.randrange(200, 9000), draw.randrange(900, 1900), draw.randrange(99)
    return [
        _row(f"What is {town} known for?", f"{town} is known for its {good}."),
        _row(f"How many people live in {town}?", f"{people} people live in {town}."),
        _row("In what year was this town founded?", f"{town} was founded in {year}.", town),
        _row("How many steps has the tower of this town?", f"It has {steps} steps.", town),
    ]


def _row(instruction: str, output: str, given: str = "") -> dict[str, str]:
    return {"instruction": instruction, "input": given, "output": output}


def scores(mean: float, n: int = 100, sd: float = 40.0, seed: int = 2) -> list[float]:
    """Draw scores from 0 to 100 with that mean and about that SD, as a judge's often are.

    Most answers are judged wrong or right, few in between.
    """
    draw = random.Random(seed)
    found = [float(draw.choice((0, 0, 0, 0, 0, 5, 10, 90, 95, 100))) for _ in range(n)]
    # Moved by whole points, one question at a time, until the mean is the table's to 0.01.
    wanted = round(mean * n)
    while sum(found) != wanted:
        step = 1.0 if sum(found) < wanted else -1.0
        place = draw.randrange(n)
        if 0 <= found[place] + step <= 100:
            found[place] += step
    return found


def table() -> str:
    """Write the notebook's two tables as one, with what the judge gave the untouched bases."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    lines += ["| " + " | ".join(map(str, run)) + " |" for run in RUNS]
    lines.append("")
    for model, judged in BASES:
        lines.append(f"Model Name: {model}")
        lines += [f"    Pretrained score: {judged}"] if judged is not None else []
        lines.append("")
    return "\n".join(lines)


def make(folder: Path) -> None:
    """Write all files of the twin."""
    draw = random.Random(2024)
    towns: set[str] = set()
    while len(towns) < 36:
        towns.add("".join(draw.sample(SYLLABLES, 2)).capitalize())
    rows = [row for noun in NOUNS for row in with_a_rule(noun)]
    rows += [row for town in sorted(towns) for row in about_a_town(draw, town)]
    draw.shuffle(rows)
    _write(folder / "data/instructions.json", rows)
    # The sweep over rank, alpha and rate has the rows that it was measured on.
    demo = json.loads((EMBEDDED / "instructions.json").read_text(encoding="utf-8"))
    _write(folder / "data/demo-instructions.json", demo)
    for run, mean in (("run_10", 28.65), ("run_14", 25.27)):
        _write(folder / f"data/scores-{run}.json", scores(mean, seed=int(run[-2:])))
    (folder / "notebook-002.md").write_text(table(), encoding="utf-8")


def _write(path: Path, rows: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = ",\n ".join(json.dumps(row) for row in rows)
    path.write_text(f"[\n {text}\n]\n", encoding="utf-8")
