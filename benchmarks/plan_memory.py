"""Hold the memory that a plan predicts against what training really takes, cell by cell.

    python benchmarks/plan_memory.py [--device cpu|cuda] [--cells N] [--method qlora]

Every cell is a process of its own, started as training is. It plans first, then takes three real
optimizer steps of the same shapes with random weights, then one more under the profiler. On a CPU
the live tensors are what torch's profiler counts as allocated, resident memory is the highest that
the system saw from the model's making on; on CUDA both are the allocator's and the device's own.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

VOCABULARY = {"gpt2": 50257, "llama": 32000}
# shape, method, precision, micro-batch lengths
CPU_CELLS = [
    ("gpt2", "full", "fp32", [256] * 4),
    ("gpt2", "full", "fp32", [512] * 4),
    ("gpt2", "full", "fp32", [1024]),
    ("gpt2", "full", "fp32", [40, 90, 130, 200, 310, 254]),
    ("gpt2", "lora", "fp32", [256] * 4),
    ("gpt2", "lora", "fp32", [1024] * 2),
    ("gpt2", "lora", "fp32", [40, 90, 130, 200, 310, 254]),
    ("llama", "full", "fp32", [256] * 4),
    ("llama", "full", "fp32", [512] * 4),
    ("llama", "full", "fp32", [1024]),
    ("llama", "full", "fp32", [40, 90, 130, 200, 310, 254]),
    ("llama", "lora", "fp32", [256] * 8),
    ("llama", "lora", "fp32", [1024] * 2),
    ("llama", "lora", "fp32", [40, 90, 130, 200, 310, 254]),
    *(
        (shape, method, precision, lengths)
        for method in ("qlora", "relora")
        for precision, lengths in (
            ("fp32", [256] * 4),
            ("fp32", [40, 90, 130, 200, 310, 254]),
            ("bf16", [256] * 4),
        )
        for shape in ("gpt2", "llama")
    ),
    *(("gpt2-124m", method, "fp32", [128] * 2) for method in ("lora", "qlora")),
]
LLAMA_7B = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32}
CUDA_CELLS = [
    *(("gpt2-124m", m, "fp32", s) for m in ("full", "lora") for s in ([1024] * 8, [300] * 16)),
    *(("gpt2-124m", m, "bf16", s) for m in ("full", "lora") for s in ([1024] * 8, [300] * 16)),
    *(("llama-1b", m, "bf16", s) for m in ("full", "lora") for s in ([1024] * 8, [2048] * 2)),
    *(("llama-7b", m, "bf16", s) for m in ("lora", "qlora") for s in ([1024] * 2, [2048] * 4)),
]


def make_config(shape: str):
    from transformers import GPT2Config, LlamaConfig

    if shape == "gpt2":
        return GPT2Config(n_layer=6, n_embd=512, n_head=8, n_positions=1024,
                          resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)  # fmt: skip
    if shape == "gpt2-124m":
        return GPT2Config()
    sizes = {
        "llama": {"hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 6},
        "llama-1b": {"hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22},
        "llama-7b": LLAMA_7B,
    }[shape]
    heads = sizes["hidden_size"] // 64 if shape != "llama-7b" else 32
    return LlamaConfig(vocab_size=32000, num_attention_heads=heads, num_key_value_heads=heads,
                       max_position_embeddings=4096, **sizes)  # fmt: skip


def resident(key: str) -> int:
    found = re.search(rf"^{key}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(found[1]) * 1024


def measure(device: str, shape: str, method: str, precision: str, lengths: list[int]) -> dict:
    """One cell, in this process: predicted and measured bytes."""
    import psutil
    import torch
    from transformers import AutoModelForCausalLM

    from tunebook.models.attention import FLAT, register_flat_attention
    from tunebook.models.load import LoadedModel, load_model, wrap_in_lora
    from tunebook.models.relora import Merger
    from tunebook.plan.batch_shapes import Sizes
    from tunebook.plan.devices import parse_device
    from tunebook.plan.memory import MemoryPlanner, Setting
    from tunebook.plan.probe import run_probe
    from tunebook.plan.rehearsal import Shape
    from tunebook.recipe.tree import Recipe
    from tunebook.step.forward import Scorer
    from tunebook.step.movement import WeightSample
    from tunebook.step.optimization import Optimization
    from tunebook.step.update import take_step

    torch.manual_seed(0)
    config = make_config(shape)
    recipe = Recipe(name="cell", model="x", method=method, data=[{"path": "x"}])
    on_cuda = device == "cuda"
    shapes = Shape(tuple(lengths), tuple(n // 2 for n in lengths))
    scorer = Scorer(flat=True, direct_head=True)
    if method != "full":
        import peft  # noqa: F401  what training has loaded by then, too
    if method == "qlora":
        import bitsandbytes  # noqa: F401
    setting = Setting(
        config, recipe, precision, parse_device(device), scorer=scorer,
        process_bytes=psutil.Process().memory_info().rss,
    )  # fmt: skip
    planner = MemoryPlanner(setting)
    predicted = planner.plan(Sizes(shapes, shapes, None), accumulates=False)

    register_flat_attention()
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    if method == "qlora":  # quantized from files, as in training; another process made them
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([sys.executable, __file__, "--make", shape, folder], check=True)
            causal = load_model(
                folder, device=device, precision=precision, attention="auto",
                quantization=recipe.quantization,
            ).causal  # fmt: skip
    else:
        with torch.device(device):
            causal = AutoModelForCausalLM.from_config(config, dtype=dtype)
        causal.set_attn_implementation(FLAT)
    network = causal if method == "full" else wrap_in_lora(causal, recipe.lora)
    if method != "qlora":
        network = network.to(device)
    merger = Merger(network, 0) if method == "relora" else None
    loaded = LoadedModel(network, causal, Path(), True, None, merger=merger)
    optimization = Optimization(loaded.trainable(), recipe.train)
    sample = WeightSample(optimization.masters)
    batch = shapes.batch()
    probe = run_probe(loaded, scorer, optimization, batch, 0)

    def step(number: int) -> None:
        take_step(loaded, scorer, optimization, sample, [batch], learning_rate=1e-4,
                  max_grad_norm=1.0, seed=0, step=number)  # fmt: skip

    for number in (1, 2, 3):
        step(number)
        if merger is not None:
            merger.merge(number)
            optimization.begin_anew(0.9)
    found = {
        "live_predicted": predicted.longest_batch_bytes,
        "resident_predicted": predicted.resident_bytes,
        "resident_confirmed": probe.peak_bytes or 0,
    }
    if on_cuda:
        free, total = torch.cuda.mem_get_info()
        found["live"] = torch.cuda.max_memory_allocated()
        found["reserved"] = torch.cuda.max_memory_reserved()
        found["resident"] = total - free
        return found
    found["resident"] = resident("VmHWM")
    kept = [*network.parameters(), *network.buffers()]
    kept += [v for s in optimization.optimizer.state.values() for v in s.values()]
    kept += optimization.masters.values()
    kept += [] if merger is None else merger._exact.values()
    for weight in causal.parameters():
        if (state := getattr(weight, "quant_state", None)) is not None:
            kept += [state.absmax, state.code]
            kept += [state.offset, state.state2.absmax, state.state2.code] if state.nested else []
    storages = {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in kept}
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        step(4)
    now = most = sum(storages.values())
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return {**found, "live": most}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--cells", type=int, default=None)
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    parser.add_argument("--make", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--method", help="only cells of this method")
    parser.add_argument("--shape", help="only cells of this model")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.cell:
        print(json.dumps(measure(arguments.device, *json.loads(arguments.cell))))
        return
    if arguments.make:
        from transformers import AutoModelForCausalLM

        shape, folder = arguments.make
        AutoModelForCausalLM.from_config(make_config(shape)).save_pretrained(folder)
        return
    from tunebook.allocator import allocator_settings

    cells = CPU_CELLS if arguments.device == "cpu" else CUDA_CELLS
    cells = [c for c in cells if arguments.method in (None, c[1])]
    cells = [c for c in cells if arguments.shape in (None, c[0])][: arguments.cells]
    rows = []
    for cell in cells:
        done = subprocess.run(
            [sys.executable, __file__, "--device", arguments.device, "--cell", json.dumps(cell)],
            env={**os.environ, **allocator_settings(), "HF_HUB_OFFLINE": "1"},
            capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            print(f"{cell}: failed: {done.stderr.strip().splitlines()[-1]}", flush=True)
            continue
        found = json.loads(done.stdout.splitlines()[-1])
        rows.append({"cell": cell, **found})
        print(line(cell, found), flush=True)
    for name in ("live", "resident"):
        errors = [abs(r[f"{name}_predicted"] / r[name] - 1) for r in rows]
        print(f"{name}: median error {statistics.median(errors):.2%}, worst {max(errors):.2%}")
    errors = [abs(r["resident_confirmed"] / r["resident"] - 1) for r in rows]
    print(f"resident, tried out: median {statistics.median(errors):.2%}, worst {max(errors):.2%}")
    if arguments.out:
        arguments.out.write_text(json.dumps(rows, indent=1))


def line(cell, found: dict) -> str:
    shape, method, precision, lengths = cell
    mib = {k: v / 2**20 for k, v in found.items()}
    text = f"{shape} {method} {precision} {len(lengths)} rows, {sum(lengths)} tokens: "
    text += f"live {mib['live_predicted']:.0f} / {mib['live']:.0f} MiB, "
    text += f"resident {mib['resident_predicted']:.0f} / {mib['resident']:.0f} MiB"
    return text + f", tried out {mib['resident_confirmed']:.0f}"


if __name__ == "__main__":
    main()
