"""Train full, LoRA, QLoRA and ReLoRA on the same Alpaca rows, step by step in turn.

    python benchmarks/method_curves.py [--steps N] [--rows FILE] [--model NAME] [--out FILE]
    python benchmarks/method_curves.py --large [--steps N]

All models are in one process and take their steps in turn, so that whatever else the machine does
meets all of them; every method sees the same rows in the same order. `--large` takes a GPT-2 of
124M random weights and compares the speed of LoRA and QLoRA alone: its memory is measured by
`plan_memory.py`, one process each.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path

METHODS = ("full", "lora", "qlora", "relora")
ROWS = Path(__file__).resolve().parents[2] / "shared/data/instruct/alpaca-random-9k.json.gz"


def recipe_of(method: str, model: str, rows: Path, steps: int, large: bool):
    from tunebook.recipe.tree import Recipe

    every = max(steps // 4, 1)
    return Recipe.model_validate(
        {
            "name": method,
            "model": model,
            "method": method,
            "data": [{"path": str(rows), "sample": 1000}],
            "template": "alpaca",
            "max_seq_len": 256,
            "validation": {"fraction": 0.1, "sample": 50},
            "lora": {"rank": 16, "alpha": 16},
            "relora": {"merge_every": every, "warmup_steps": min(5, every)},
            "train": {
                "max_steps": steps,
                "effective_batch_size": 4 if large else 16,
                "micro_batch_size": 4 if large else 16,
                "learning_rate": 1e-3 if method == "full" else 4e-3,
                "warmup_steps": 5,
            },
            "evaluate": {"canary": 0},
        }
    )


def prepare_runs(methods, arguments, folder: Path):
    """Build each method's model and its training, of the same tokens."""
    from tunebook.data.batches import validation_batches
    from tunebook.data.prepare import prepare
    from tunebook.models.tokenizer import load_tokenizer
    from tunebook.step.horizon import plan_horizon
    from tunebook.step.optimization import Optimization
    from tunebook.train.loop import Training
    from tunebook.workflows.model import build_model

    codec = load_tokenizer(arguments.model)
    runs = {}
    for method in methods:
        recipe = recipe_of(
            method, arguments.model, arguments.rows, arguments.steps, arguments.large
        )
        prepared = prepare(recipe, codec, folder, lambda _: None)
        loaded, scorer = build_model(recipe, {}, codec, None, checkpointing=False)
        optimization = Optimization(loaded.trainable(), recipe.train)
        horizon = plan_horizon(recipe, prepared.train)
        training = Training(recipe, loaded, scorer, optimization, prepared.train, horizon, ())
        runs[method] = (training, list(validation_batches(prepared.validation, 8192)))
    return runs


def train_in_turn(runs, steps: int, say):
    from tunebook.step.score import mean_loss, score_examples
    from tunebook.train.loop import training_steps

    def held_out(method: str) -> float:
        training, batches = runs[method]
        return mean_loss(score_examples(training.loaded, training.scorer, batches))

    found = {m: {"loss": [], "seconds": [], "val": {0: held_out(m)}} for m in runs}
    loops = {method: training_steps(training, 1) for method, (training, _) in runs.items()}
    for step in range(1, steps + 1):
        for method, loop in loops.items():
            record = next(loop)
            found[method]["loss"].append(record.loss)
            found[method]["seconds"].append(record.seconds)
            if step % max(steps // 4, 1) == 0:
                found[method]["val"][step] = held_out(method)
        if step % max(steps // 4, 1) == 0:
            say(f"step {step}: " + ", ".join(f"{m} {f['val'][step]:.3f}" for m, f in found.items()))
    return found


def print_table(found) -> None:
    reference = "lora"
    print("| method | first loss | last loss | held-out loss | seconds a step | against lora |")
    print("|---|---:|---:|---|---:|---:|")
    for method, of in found.items():
        last = statistics.fmean(of["loss"][-10:])
        held = " > ".join(f"{value:.3f}" for value in of["val"].values())
        pairs = zip(of["seconds"][1:], found[reference]["seconds"][1:], strict=True)
        ratio = statistics.median(a / b for a, b in pairs)
        seconds = statistics.median(of["seconds"][1:])
        row = (f"{of['loss'][0]:.3f}", f"{last:.3f}", held, f"{seconds:.2f}", f"{ratio:.2f}")
        print(f"| {method} | {' | '.join(row)} |")


def draw(found, path: Path) -> None:
    try:
        from matplotlib import pyplot
    except ImportError:
        print("matplotlib is not installed: no picture")
        return
    for method, of in found.items():
        pyplot.plot(range(1, len(of["loss"]) + 1), of["loss"], label=method, linewidth=1)
    pyplot.xlabel("step")
    pyplot.ylabel("loss per target token, nats")
    pyplot.legend()
    pyplot.savefig(path, dpi=120)


def make_large(folder: Path) -> str:
    """Save a GPT-2 of 124M random weights with the embedded model's tokenizer."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    from tunebook.models.find import find_model
    from tunebook.models.tokenizer import copy_tokenizer

    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config()).save_pretrained(folder)
    copy_tokenizer(find_model("tunebook/tiny"), folder)
    return str(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--rows", type=Path, default=ROWS)
    parser.add_argument("--model", default="tunebook/tiny")
    parser.add_argument("--large", action="store_true")
    parser.add_argument(
        "--out", type=Path, help="a .json of the curves; the picture stands beside it"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.large:
            arguments.model = make_large(Path(folder) / "gpt2")
        methods = ("lora", "qlora") if arguments.large else METHODS
        runs = prepare_runs(methods, arguments, Path(folder))
        found = train_in_turn(runs, arguments.steps, lambda text: print(text, flush=True))
    print_table(found)
    if arguments.out:
        arguments.out.write_text(json.dumps(found))
        draw(found, arguments.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
