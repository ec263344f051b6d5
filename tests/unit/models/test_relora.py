"""Merges of method relora: what they leave as it is, and what they let the update become."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from tunebook.data.batches import MicroBatch
from tunebook.errors import ModelError
from tunebook.models.load import LoadedModel, add_lora, load_model, save_weights
from tunebook.models.relora import APART, Merger
from tunebook.recipe.tree import Lora, Recipe, Train
from tunebook.step.forward import Scorer
from tunebook.step.movement import WeightSample
from tunebook.step.optimization import Optimization
from tunebook.step.team import ALONE
from tunebook.step.update import take_step
from tunebook.train.state import Position, write_state

IDS = torch.tensor([[5, 9, 30, 12, 44, 7]])
RANK = 2


def load(folder: Path, precision: str = "fp32", **lora: Any) -> LoadedModel:
    plain = load_model(str(folder), device="cpu", precision=precision, attention="auto")
    loaded = add_lora(plain, Lora(**{"rank": RANK, "alpha": 4, **lora}), "base", seed=0)
    return replace(loaded, merger=Merger(loaded.network, seed=0))


def train(loaded: LoadedModel, merge_every: int, steps: int = 12) -> Optimization:
    train = Train(learning_rate=1e-2)
    optimization = Optimization(loaded.trainable(), train)
    sample = WeightSample(optimization.masters)
    for step in range(1, steps + 1):
        ids = np.random.default_rng(step).integers(0, 250, 24)
        positions = np.arange(24)
        batch = MicroBatch(
            ids, positions, positions > 0, np.zeros(24, np.int64), (24,), ("a",), ("a",)
        )
        take_step(
            loaded, Scorer(True, True), optimization, sample, [batch],
            learning_rate=1e-2, max_grad_norm=1.0, seed=0, step=step,
        )  # fmt: skip
        if step % merge_every == 0 and loaded.merger is not None:
            loaded.merger.merge(step)
            optimization.begin_anew(0.9)
    return optimization


def logits(network: Any) -> torch.Tensor:
    with torch.no_grad():
        return network.eval()(input_ids=IDS).logits.float()


@pytest.mark.parametrize("variant", ["lora", "rslora"])
@pytest.mark.parametrize("model", ["tiny_gpt2", "tiny_model"])
def test_a_merge_leaves_the_model_as_it_is(
    request: pytest.FixtureRequest, model: str, variant: str
) -> None:
    loaded = load(request.getfixturevalue(model), variant=variant)
    untouched = logits(loaded.causal)
    train(loaded, merge_every=100)
    before = logits(loaded.network)
    assert not torch.allclose(before, untouched, atol=1e-2)
    loaded.merger.merge(12)
    torch.testing.assert_close(logits(loaded.network), before, atol=1e-5, rtol=0)
    assert all(not p.any() for n, p in loaded.trainable().items() if "lora_B" in n)


@pytest.mark.parametrize(("merge_every", "rank"), [(100, RANK), (3, 4 * RANK)])
def test_the_sum_of_updates_grows_beyond_the_rank_of_one(
    tiny_model: Path, merge_every: int, rank: int
) -> None:
    loaded = load(tiny_model)
    start = AutoModelForCausalLM.from_pretrained(tiny_model).state_dict()
    train(loaded, merge_every)
    loaded.merger.merge(12)
    for name in ("self_attn.q_proj", "mlp.down_proj"):
        path = f"model.layers.0.{name}"
        moved = loaded.causal.get_submodule(path).base_layer.weight - start[f"{path}.weight"]
        sizes = torch.linalg.svdvals(moved.double())
        # fp32 sums leave singular values of 1e-7 of the largest where there is nothing.
        assert int((sizes > 1e-5 * sizes[0]).sum()) == rank


def test_what_bf16_cannot_hold_of_an_update_is_kept_for_the_next_merge(tiny_model: Path) -> None:
    loaded = load(tiny_model, "bf16")
    layer = loaded.causal.get_submodule("model.layers.0.mlp.up_proj")
    weight = layer.base_layer.weight
    with torch.no_grad():
        weight.fill_(1.0)
    merger = Merger(loaded.network, seed=0)
    # Next to 1 bf16 has steps of 2^-7, so an update of 2^-10 rounds away; the fifth is past half.
    for merge in range(1, 9):
        with torch.no_grad():
            layer.lora_A["default"].weight.fill_(1.0)
            layer.lora_B["default"].weight.fill_(2.0**-12)  # times rank 2 and scale 2
        merger.merge(merge)
        expected = 1.0 if merge <= 4 else 1.0 + 2.0**-7
        assert torch.equal(weight, torch.full_like(weight, expected)), merge


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_checkpoint_is_a_plain_model_and_leaves_the_run_as_it_was(
    tiny_gpt2: Path, tmp_path: Path, precision: str
) -> None:
    loaded = load(tiny_gpt2, precision)
    optimization = train(loaded, merge_every=5)
    before = {n: t.clone() for n, t in loaded.network.state_dict().items()}
    wanted = logits(loaded.network)
    write_state(
        tmp_path, loaded, optimization, Position(12, 20, 4, 0, "hash", 0, None, None), ALONE
    )
    after = loaded.network.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    elsewhere = AutoModelForCausalLM.from_pretrained(tmp_path)
    tolerance = {"fp32": 1e-5, "bf16": 0.05}[precision]
    torch.testing.assert_close(logits(elsewhere), wanted, atol=tolerance, rtol=0)
    again = add_lora(
        load_model(str(tmp_path), device="cpu", precision=precision, attention="auto"),
        Lora(rank=RANK, alpha=4), "base", seed=5,
    )  # fmt: skip
    Merger(again.network, seed=0).read(tmp_path)
    found = again.network.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in before.items())
    assert (tmp_path / APART).is_file()


def test_the_smallest_averages_are_forgotten_or_all(tiny_model: Path) -> None:
    for share in (0.0, 0.9, 1.0):
        loaded = load(tiny_model)
        optimization = train(loaded, merge_every=100)
        before = optimization.state_tensors()
        optimization.begin_anew(share)
        after = optimization.state_tensors()
        if share == 1.0:
            assert not after
            continue
        for name in optimization.masters:
            first = before[f"{name}|exp_avg"]
            n_forgotten = int(share * first.numel())
            kept = torch.zeros(first.numel(), dtype=torch.bool)
            kept[first.abs().flatten().argsort()[n_forgotten:]] = True
            for key in ("exp_avg", "exp_avg_sq"):
                expected = before[f"{name}|{key}"] * kept.view_as(first)
                assert torch.equal(after[f"{name}|{key}"], expected), (name, key)
            assert torch.equal(after[f"{name}|step"], before[f"{name}|step"])


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")
def test_a_head_that_is_the_embedding_is_not_merged_into(tiny_model: Path) -> None:
    with pytest.raises(ModelError, match="lm_head, whose weight another module shares"):
        load(tiny_model, target_modules=["q_proj", "lm_head"])
    with pytest.raises(ModelError, match="embed_tokens; leave it out"):
        load(tiny_model, target_modules=["q_proj", "embed_tokens"])


def test_final_weights_have_no_trace_of_an_adapter(tiny_gpt2: Path, tmp_path: Path) -> None:
    loaded = load(tiny_gpt2)
    train(loaded, merge_every=5)
    loaded.merger.merge(12)
    save_weights(loaded, tmp_path)
    plain = AutoModelForCausalLM.from_pretrained(tiny_gpt2).state_dict()
    found = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert found.state_dict().keys() == plain.keys()
    torch.testing.assert_close(logits(found), logits(loaded.network), atol=1e-5, rtol=0)
    assert not list(tmp_path.glob("adapter*"))
    assert not (tmp_path / APART).exists()


def test_a_warm_up_longer_than_the_way_to_the_next_merge_is_refused() -> None:
    values = {"name": "a", "model": "x", "data": [{"path": "x"}], "method": "relora"}
    with pytest.raises(ValueError, match="a merge comes every 5 steps"):
        Recipe.model_validate({**values, "relora": {"merge_every": 5}})
