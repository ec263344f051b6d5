"""How long a checkpoint stops training: written at once, and copied and written beside the steps.

    python benchmarks/speed/checkpoints.py --device cpu --repeats 3

A GPT-2 of 124M random weights takes a few steps after each save. Both ways take turns; what a save
costs is the time from before it until the last of these steps is done and the checkpoint durable,
less as many steps without a save. Files lie in a temporary folder, whose disk counts.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from record import write_result
from transformers import GPT2Config, GPT2LMHeadModel

from tunebook.book.checkpoints import delete_folder, writing_checkpoint
from tunebook.book.places import RunFolder
from tunebook.models.attention import FLAT, register_flat_attention
from tunebook.models.load import LoadedModel, quieten_transformers
from tunebook.plan.rehearsal import Shape
from tunebook.recipe.tree import Train
from tunebook.step.forward import Scorer
from tunebook.step.optimization import Optimization
from tunebook.step.team import ALONE
from tunebook.step.update import back_propagate
from tunebook.train.state import Position, copy_state, state_bytes, write_state
from tunebook.workflows.saving import Writer


class Trained:
    """A model that takes steps and is saved."""

    def __init__(self, folder: Path, device: str, layers: int, tokens: int) -> None:
        quieten_transformers()
        register_flat_attention()
        torch.manual_seed(0)
        model = GPT2LMHeadModel(GPT2Config(n_layer=layers)).to(device)
        model.set_attn_implementation(FLAT)
        self.loaded = LoadedModel(model, model, folder / "tokenizer", True, 1024)
        (folder / "tokenizer").mkdir()
        self.optimization = Optimization(self.loaded.trainable(), Train())
        self.batch = Shape((tokens,), (tokens // 2,)).batch()
        self.run = RunFolder(folder, "run")
        self.writer, self.number = Writer(), 0

    def steps(self, n: int) -> None:
        for step in range(n):
            targets = int(self.batch.target.sum())
            back_propagate(
                self.loaded,
                Scorer(True, True),
                [self.batch],
                target_tokens=targets,
                seed=0,
                step=step,
            )
            self.optimization.apply(1e-5, 1.0)
            self.optimization.clear_gradients()
        if self.loaded.device.type == "cuda":
            torch.cuda.synchronize()

    def save(self, aside: bool) -> None:
        self.number += 1
        number = self.number
        position = Position(number, 100, number, 0, None, 0, None, None)
        copied = copy_state(self.loaded, self.optimization) if aside else None

        def write() -> None:
            with writing_checkpoint(self.run, number) as folder:
                write_state(folder, self.loaded, self.optimization, position, ALONE, copied)

        if aside:
            self.writer.begin(write, lambda: None)
        else:
            write()

    def after_save(self, aside: bool | None, n_steps: int) -> tuple[float, float]:
        """Give the seconds that a save stops training, and those until all is done after it."""
        started = time.monotonic()
        if aside is not None:
            self.save(aside)
        stopped = time.monotonic() - started
        self.steps(n_steps)
        self.writer.finish()
        seconds = time.monotonic() - started
        if aside is not None:
            delete_folder(self.run.checkpoints / f"step-{self.number}")
        return stopped, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--tokens", type=int, default=256, help="of one row, one row a step")
    parser.add_argument("--steps", type=int, default=4, help="after each save")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, help="of torch; all cores by default")
    parser.add_argument("--folder", help="where the files lie; a temporary folder by default")
    parser.add_argument("--no-record", action="store_true")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        trained = Trained(Path(folder), options.device, options.layers, options.tokens)
        trained.steps(1)  # makes the optimizer's state
        n_bytes = state_bytes(trained.loaded, trained.optimization, ALONE)
        ways: dict[str, bool | None] = {"no save": None, "at once": False, "beside": True}
        found: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
        for _ in range(options.repeats):
            for way, aside in ways.items():
                found[way].append(trained.after_save(aside, options.steps))

    def middle(way: str, pick: Callable[[tuple[float, float]], float]) -> float:
        return statistics.median(map(pick, found[way]))

    bare = middle("no save", lambda pair: pair[1])
    rows = [
        [way, middle(way, lambda pair: pair[0]), middle(way, lambda pair: pair[1]) - bare]
        for way in ways
        if way != "no save"
    ]
    for way, stopped, cost in rows:
        print(f"{way:10} stops training {stopped:6.2f} s, costs {cost:6.2f} s in all")
    print(f"a checkpoint of {n_bytes / 1e9:.2f} GB; {options.steps} steps take {bare:.2f} s")
    if not options.no_record:
        write_result(
            f"checkpoints-{options.device}",
            title="Time that a checkpoint takes from training",
            command=f"python benchmarks/speed/checkpoints.py --device {options.device}",
            settings={
                "model": f"GPT-2 shape, {options.layers} layers, fp32, AdamW, method full",
                "checkpoint_bytes": n_bytes,
                "steps_after_each_save": options.steps,
                "seconds_of_these_steps": round(bare, 3),
                "tokens_per_step": options.tokens,
                "repeats": options.repeats,
                "threads": torch.get_num_threads(),
            },
            columns=["written", "stops training, s", "costs in all, s"],
            rows=[[way, round(stopped, 3), round(cost, 3)] for way, stopped, cost in rows],
            notes=["Medians of repeats that take turns; cost in all: over the same steps unsaved."],
        )


if __name__ == "__main__":
    main()
