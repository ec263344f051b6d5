"""The share of this processor's matrix product that tunebook's steps reach.

    python benchmarks/speed/share.py RESULT.json     add it to a result whose machine this is

Operations are those of the model's mathematics by the convention of `plan.clock.Cost`, the ceiling
is the best of several products of large squares, measured when the processor does nothing else.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cases import CASES, DATA, Work, recipe_of
from record import Goal

# What tunebook's steps are to reach of it at 124M, method full.
WANTED = {"tunebook": ("fp32", 0.65), "tunebook-bf16": ("bf16", 0.55)}
_SECONDS = 3.0


def operations_of(work: Work) -> Mapping[str, float]:
    """Count the operations of training that a token and a target token of a case add."""
    from tunebook.models.skeleton import add_lora_to_skeleton, build_skeleton, load_config
    from tunebook.plan.clock import count_cost
    from tunebook.plan.counts import count_parameters
    from tunebook.recipe.tree import Recipe

    recipe, config = Recipe.model_validate(recipe_of(work)), load_config(work.model)
    causal = build_skeleton(config)
    full = recipe.method == "full"
    network = causal if full else add_lora_to_skeleton(causal, recipe.lora)
    parameters = count_parameters(network, causal, quantized=False)
    lengths = [len(row["ids"]) for step in work.step_rows()[: work.case.steps] for row in step]
    context = sum(n * n for n in lengths) / sum(lengths)
    return count_cost(parameters, config.to_dict(), recipe.method, context).coefficients()


def share_goals(work: Work, speeds: Mapping[str, tuple[float, float]]) -> tuple[list[Goal], str]:
    """Give the goals of contenders by their tokens and target tokens per second, and a note."""
    from tunebook.plan.ceiling import matrix_product_flops

    counted = operations_of(work)
    goals, ceilings = [], []
    for name, (precision, wanted) in WANTED.items():
        if name not in speeds:
            continue
        ceiling = matrix_product_flops(precision, seconds=_SECONDS)
        tokens, targets = speeds[name]
        done = tokens * counted["token"] + targets * counted["target_token"]
        ceilings.append(f"{ceiling / 1e9:,.0f} GFLOP/s in {precision}")
        share = round(done / ceiling, 3)
        goals.append(Goal(f"share of a matrix product, {name}", wanted, share, unit=""))
    return goals, f"A matrix product alone on this machine: {', '.join(ceilings)}."


def main() -> None:
    from compare import make_work

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("result", type=Path)
    asked = parser.parse_args()
    found: dict[str, Any] = json.loads(asked.result.read_bytes())
    speeds = {row[0]: (row[1], row[2]) for row in found["rows"]}
    with tempfile.TemporaryDirectory() as folder:
        work = make_work(CASES[found["case"]], Path(folder), DATA)
        goals, note = share_goals(work, speeds)
    for goal in goals:
        print(f"{goal.name}: {goal.measured:.1%}, wanted {goal.wanted:.0%}")
    print(note)
    known = [goal for goal in found["goals"] if not goal["name"].startswith("share of")]
    found["goals"] = [*known, *map(asdict, goals)]
    notes = [one for one in found["notes"] if not one.startswith("A matrix product alone")]
    found["notes"] = [*notes, note]
    text = json.dumps(found, indent=1, ensure_ascii=False) + "\n"
    asked.result.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
