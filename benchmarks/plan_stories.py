"""Hold plans beside what the notebooks' authors saw on their cards.

    python benchmarks/plan_stories.py

Prints a Markdown table of resident memory by plan for each run whose author wrote a number down.
How long the rows of their largest batches were is not known, so every story is planned at several
lengths: a typical Alpaca row, and rows as long as two limits allow. Nothing is loaded or measured.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tunebook.models.skeleton import load_config
from tunebook.plan.batch_shapes import Sizes
from tunebook.plan.devices import parse_device
from tunebook.plan.memory import MemoryPlanner, Setting
from tunebook.plan.rehearsal import Shape
from tunebook.recipe.tree import Recipe

CONFIGS = Path(__file__).parents[1] / "tests" / "golden" / "configs"
# Rows of Alpaca under the notebook's template are this long on average in tokens of GPT-2 (9,229
# rows drawn at random: median 93, 99 % below 325, the longest 986).
TYPICAL = 109
LIMITS = (512, 1024)
# model, method, device, rows in a micro-batch, what the author saw in GiB
STORIES = [
    ("gpt2-medium", "lora", "t4", 2, "7.9"),
    ("gpt2-medium", "lora", "t4", 4, "9.7, once 14.2"),
    ("gpt2-medium", "lora", "t4", 8, "out of memory at 15"),
    ("gpt2-large", "lora", "t4", 2, "10.9"),
    ("gpt2-large", "full", "a100-40", 2, "38.5"),
]


def planner(model: str, method: str, device: str) -> MemoryPlanner:
    """Make a planner with the notebook's attention and precision."""
    values: dict[str, Any] = {"name": "story", "model": model, "data": [{"path": "rows"}]}
    values |= {"method": method, "attention": "eager", "lora": {"rank": 16}}
    config = load_config(str(CONFIGS / model))
    return MemoryPlanner(
        Setting(config, Recipe.model_validate(values), "fp32", parse_device(device))
    )


def resident_gib(plans: MemoryPlanner, rows: int, length: int) -> float:
    """What the device would show, for rows of one length that carry loss on every token."""
    shape = Shape((length,) * rows, (length,) * rows)
    # Evaluation was a batch like those of training, without what backward needs.
    return plans.plan(Sizes(shape, shape, shape), accumulates=False).resident_bytes / 2**30


def main() -> None:
    print(f"| run | device | typical: {TYPICAL} tokens | 512 tokens | 1,024 tokens | observed |")
    print("|---|---|---:|---:|---:|---:|")
    plans: dict[tuple[str, str, str], MemoryPlanner] = {}
    for model, method, device, rows, observed in STORIES:
        key = (model, method, device)
        if key not in plans:
            plans[key] = planner(*key)
        found = [resident_gib(plans[key], rows, length) for length in (TYPICAL, *LIMITS)]
        cells = " | ".join(f"{gib:.1f}" for gib in found)
        print(f"| {model} {method}, {rows} rows | {device} | {cells} | {observed} |", flush=True)


if __name__ == "__main__":
    main()
