"""Steps of tiny models, alone or as one rank of a team: run by tests that hold the two together.

`torch.distributed.run ... team_worker.py OUT CASES` writes what rank 0 saw to OUT as JSON.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tunebook.book.atomic import folder_bytes
from tunebook.data.batches import MicroBatch
from tunebook.models.checkpointing import set_checkpointing
from tunebook.models.generate import Sampling, generate
from tunebook.models.load import LoadedModel, add_lora, load_model
from tunebook.recipe.tree import Lora, Train
from tunebook.step.check import choose_scorer
from tunebook.step.movement import WeightSample
from tunebook.step.optimization import Optimization
from tunebook.step.score import score_examples
from tunebook.step.sharding import shard_model, with_root
from tunebook.step.team import Team, join_team
from tunebook.step.update import take_step
from tunebook.train.state import state_bytes, write_state

# Micro-batches of each step: as many as ranks or not, and a last one with fewer than ranks.
STEPS = (4, 3, 4, 2, 1)


def make_batch(seed: int, lengths: tuple[int, ...]) -> MicroBatch:
    draw = np.random.default_rng(seed)
    positions = np.concatenate([np.arange(n) for n in lengths])
    return MicroBatch(
        ids=draw.integers(1, 250, sum(lengths)),
        positions=positions,
        target=(positions > 0) & (draw.random(sum(lengths)) < 0.7),
        segment=np.repeat(np.arange(len(lengths)), lengths),
        lengths=lengths,
        example_ids=tuple(f"{seed}-{i}" for i in range(len(lengths))),
        sources=("made",) * len(lengths),
    )


def run_case(case: dict[str, Any], team: Team) -> dict[str, Any]:
    """Train a few steps, with scores of held-out rows between them."""
    precision = case.get("precision", "fp32")
    attention = case.get("attention", "auto")
    loaded = load_model(case["model"], device="cpu", precision=precision, attention=attention)
    scorer = choose_scorer(loaded, 250)
    if case["method"] == "lora":
        loaded = add_lora(loaded, Lora(rank=4), case["model"], 0)
    if case.get("checkpointing"):
        set_checkpointing(loaded.causal)
    if not team.alone and case["method"] == "full":
        loaded = shard_model(loaded, team, "cpu", precision)
    rounds = loaded.root is not None and precision == "bf16"
    optimization = Optimization(loaded.trainable(), Train(weight_decay=0.1), keeps_rounded=rounds)
    sample = WeightSample(optimization.masters, team)
    found: dict[str, Any] = {"steps": [], "scores": []}
    for step, n_batches in enumerate(STEPS, start=1):
        batches = [make_batch(10 * step + i, (5 + i, 9, 3 + step)) for i in range(n_batches)]
        result = take_step(
            loaded,
            scorer,
            optimization,
            sample,
            batches,
            learning_rate=1e-2,
            max_grad_norm=1.0,
            seed=0,
            step=step,
            team=team,
        )
        found["steps"].append(
            {
                "loss": result.loss_sum / result.target_tokens,
                "grad_norm": result.grad_norm,
                "clipped": result.clipped,
                "applied": result.applied,
                "update_ratio": result.update_ratio,
                "changed_fraction": result.changed_fraction,
                "examples": [[e.id, e.loss_sum, e.target_tokens] for e in result.examples],
            }
        )
        held_out = [make_batch(99, (6, 9)), make_batch(98, (12,)), make_batch(97, (4, 4))]
        scored = score_examples(loaded, scorer, held_out, team)
        found["scores"] += [[line.id, line.loss_sum, line.target_tokens] for line in scored]
    asked = [(5, 6, 7)]
    [(_, said)] = with_root(loaded, lambda: list(generate(loaded, asked, Sampling(6), [0])))
    answer = list(said.ids)
    if optimization.sharded:
        found["asked_bytes"] = state_bytes(loaded, optimization, team)
        found["saved_bytes"] = save(Path(case["saved"]), loaded, optimization, team)
    return found | {"answer": answer}


def save(folder: Path, loaded: LoadedModel, optimization: Optimization, team: Team) -> int:
    """Write a checkpoint with all ranks; gives its size."""
    if team.rank == 0:
        folder.mkdir(parents=True)
    team.most(0)  # there is a folder now
    write_state(folder, loaded, optimization, None, team)
    team.most(0)  # all have written
    return folder_bytes(folder)


def run_cases(cases: list[dict[str, Any]], team: Team) -> list[dict[str, Any]]:
    torch.set_num_threads(1)
    return [run_case(case, team) for case in cases]


if __name__ == "__main__":
    joined = join_team("cpu")
    answers = run_cases(json.loads(sys.argv[2]), joined)
    if joined.rank == 0:
        Path(sys.argv[1]).write_text(json.dumps(answers), encoding="utf-8")
    joined.most(0)  # nobody leaves while another still sends
    sys.stdout.flush()
    os._exit(0)
