"""AdamW in 8 bits: its state is saved and taken up bit by bit, and planned to the byte."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig

from tunebook.errors import RunFileError
from tunebook.models.quantize import eight_bit_bytes
from tunebook.plan.devices import parse_device
from tunebook.plan.memory import MemoryPlanner, Setting
from tunebook.plan.rehearsal import Shape
from tunebook.recipe.tree import Recipe, Train
from tunebook.step.optimization import Optimization
from tunebook.workflows.planning import refuse_optimizer

TRAIN = Train(optimizer="adamw_8bit", learning_rate=0.01, weight_decay=0.1)


def optimization(dtype: torch.dtype, train: Train = TRAIN) -> Optimization:
    torch.manual_seed(0)
    shapes = {"large": (70, 100), "larger": (128, 64), "small": (40, 10), "bias": (64,)}
    return Optimization(
        {n: torch.nn.Parameter(torch.randn(s).to(dtype)) for n, s in shapes.items()}, train
    )


def update(one: Optimization, step: int) -> None:
    torch.manual_seed(step)
    for master in one.masters.values():
        master.grad = torch.randn(master.shape)
    one.apply(0.01, 1.0)
    one.clear_gradients()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_resumed_optimizer_goes_on_in_the_same_bits(dtype: torch.dtype, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    straight, first = optimization(dtype), optimization(dtype)
    for step in (1, 2, 3):
        update(straight, step)
    update(first, 1)
    save_file(first.state_tensors(), tmp_path / "optimizer.safetensors")
    resumed = optimization(dtype)
    for name, parameter in resumed.parameters.items():
        parameter.data.copy_(first.parameters[name].data)
    resumed.load_state_tensors(load_file(tmp_path / "optimizer.safetensors"))
    for step in (2, 3):
        update(resumed, step)
    for name, parameter in straight.parameters.items():
        assert torch.equal(parameter, resumed.parameters[name]), name
    saved, again = straight.state_tensors(), resumed.state_tensors()
    assert set(saved) == set(again)
    assert all(torch.equal(saved[key], again[key]) for key in saved)
    assert saved["large|state1"].dtype == torch.uint8
    assert saved["small|state1"].dtype == torch.float32


def test_averages_in_8_bits_stay_near_those_in_32() -> None:
    pytest.importorskip("bitsandbytes")
    few, many = (
        optimization(torch.float32),
        optimization(torch.float32, TRAIN.model_copy(update={"optimizer": "adamw"})),
    )
    before = few.masters["large"].detach().clone()
    for step in range(1, 6):
        update(few, step)
        update(many, step)
    change, exact = (one.masters["large"].detach() - before for one in (few, many))
    assert 0 < float((change - exact).norm() / exact.norm()) < 0.1
    assert torch.allclose(few.masters["small"], many.masters["small"], atol=1e-6)


def test_the_state_is_planned_to_the_byte() -> None:
    pytest.importorskip("bitsandbytes")
    one = optimization(torch.float32)
    update(one, 1)
    state = [v for values in one.optimizer.state.values() for v in values.values()]
    real = sum(v.nbytes for v in state if torch.is_tensor(v))
    assert real == sum(eight_bit_bytes(p.numel()) for p in one.parameters.values())
    # By hand: 7,000 elements have 28 blocks of 256, 8,192 have 32; 400 and 64 stay in 32 bits.
    assert real == 2 * 7000 + 8 * 28 + 2048 + 2 * 8192 + 8 * 32 + 2048 + 8 * (400 + 64)


def test_a_plan_counts_averages_in_8_bits_without_bitsandbytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "bitsandbytes", None)
    config = LlamaConfig(
        vocab_size=320,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
    )

    def optimizer_bytes(name: str, precision: str) -> tuple[MemoryPlanner, int]:
        recipe = Recipe.model_validate(
            {"name": "a", "model": "m", "data": [{"path": "x"}], "train": {"optimizer": name}}
        )
        planner = MemoryPlanner(Setting(config, recipe, precision, parse_device("t4")))
        peak = planner.train_peak(Shape((16,), (16,)), accumulates=False)
        return planner, peak.parts["optimizer"]

    # Embedding and head; per layer 4 of attention, 3 of the MLP and 2 norms; the last norm.
    shapes = [320 * 64] * 2 + [64 * 64] * 8 + [64 * 128] * 6 + [64] * 5
    planner, found = optimizer_bytes("adamw_8bit", "fp32")
    assert planner.eight_bit_bytes == found == sum(map(eight_bit_bytes, shapes))
    assert optimizer_bytes("adamw_8bit", "bf16")[1] == found + 4 * sum(shapes)
    assert found < 0.4 * optimizer_bytes("adamw", "fp32")[1]


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_it_is_refused_where_it_would_be_slow(device: str) -> None:
    recipe: Any = Recipe.model_validate(
        {"name": "a", "model": "m", "data": [{"path": "x"}], "train": {"optimizer": "adamw_8bit"}}
    )
    with pytest.raises(RunFileError, match=r"is for CUDA.*say train\.optimizer: adamw"):
        refuse_optimizer(recipe, device)
    refuse_optimizer(recipe, "cuda")
