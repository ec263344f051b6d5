"""LoRA on some layers, and its variants, against counts and scales made by hand."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPTJConfig, LlamaConfig, MixtralConfig

from tunebook.errors import ModelError, RunFileError
from tunebook.models.load import add_lora, load_adapter, load_model, save_weights, wrap_in_lora
from tunebook.models.skeleton import add_lora_to_skeleton, build_skeleton
from tunebook.plan.devices import parse_device
from tunebook.plan.memory import MemoryPlanner, Setting
from tunebook.plan.rehearsal import Shape
from tunebook.recipe.load import recipe_from_mapping
from tunebook.recipe.methods import Lora

D, R = 64, 4
SMALL = {"vocab_size": 100, "hidden_size": D, "num_attention_heads": 4}
LLAMA = LlamaConfig(**SMALL, intermediate_size=160, num_hidden_layers=6, num_key_value_heads=2)
MIXTRAL = MixtralConfig(
    # More experts than layers: the longest list is not that of the layers.
    **SMALL,
    intermediate_size=96,
    num_hidden_layers=3,
    num_key_value_heads=2,
    num_local_experts=8,
)
GPT2 = GPT2Config(vocab_size=100, n_embd=D, n_layer=6, n_head=4)
GPTJ = GPTJConfig(vocab_size=100, n_embd=D, n_layer=6, n_head=4, rotary_dim=8)
# r (in + out) of every linear layer, by hand.
PER_LAYER = {
    "llama": R * (2 * (D + D) + 2 * (D + 32) + 3 * (D + 160)),
    "gpt2": R * ((D + 3 * D) + (D + D) + 2 * (D + 4 * D)),
    "gptj": R * (4 * (D + D) + 2 * (D + 4 * D)),
}


def adapted(config: Any, **lora: Any) -> tuple[set[int], int]:
    """Give the layers with adapters and the number of their parameters."""
    network = add_lora_to_skeleton(build_skeleton(config), Lora(rank=R, **lora))
    names = {n: p.numel() for n, p in network.named_parameters() if p.requires_grad}
    found = [re.search(r"\.(?:h|layers)\.(\d+)\.", n) for n in names]
    assert all(found), names
    return {int(m[1]) for m in found if m}, sum(names.values())


@pytest.mark.parametrize("config", [LLAMA, GPT2, GPTJ], ids=lambda c: c.model_type)
def test_only_the_named_layers_have_adapters(config: Any) -> None:
    each = PER_LAYER[config.model_type]
    assert adapted(config) == (set(range(6)), 6 * each)
    assert adapted(config, layers="last:2") == ({4, 5}, 2 * each)
    assert adapted(config, layers=[5, 0]) == ({0, 5}, 2 * each)


def test_layers_of_a_mixture_of_experts_are_not_its_experts() -> None:
    assert adapted(MIXTRAL, layers="last:1", target_modules=["q_proj"]) == ({2}, R * 2 * D)


@pytest.mark.parametrize(
    ("lora", "said"),
    [
        (
            {"target_modules": ["q_proj", "embed_tokens"], "layers": "last:2"},
            "'embed_tokens', which is in none of the layers that lora.layers 'last:2' names",
        ),
        ({"target_modules": ["q_proj", "c_attn"]}, "'c_attn', which no module of the model is"),
        ({"target_modules": ["q_porj"]}, "'q_porj', which .* is; did you mean q_proj"),
        ({"target_modules": "q_porj"}, "'q_porj' is read as a pattern .* did you mean q_proj"),
        ({"target_modules": "*q_proj"}, "is no pattern .*; give a list of names"),
    ],
)
def test_a_name_that_adapts_nothing_is_refused(lora: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        adapted(LLAMA, **lora)


@pytest.mark.parametrize(("layers", "shown"), [([0, 6], r"\[0, 6\]"), ("last:7", "'last:7'")])
def test_a_layer_that_is_not_there_is_refused_with_those_that_are(layers: Any, shown: str) -> None:
    with pytest.raises(ModelError, match=f"`lora.layers` is {shown}.* 6 layers, 0 to 5"):
        adapted(LLAMA, layers=layers)


def test_a_pattern_of_modules_does_not_go_with_layers() -> None:
    values = {"name": "x", "model": "m", "data": [{"path": "x"}], "method": "lora"}
    for names in (".*q_proj", ["model.layers.0.self_attn.q_proj"]):
        lora = {"target_modules": names, "layers": "last:1"}
        with pytest.raises(RunFileError, match="`lora`: `layers` goes with"):
            recipe_from_mapping({**values, "lora": lora}, "run", Path())


def test_dora_trains_one_length_per_output_beside_the_matrices() -> None:
    outputs = 2 * D + 2 * 32 + 2 * 160 + D
    assert adapted(LLAMA, variant="dora", layers=[1]) == ({1}, PER_LAYER["llama"] + outputs)


def test_each_variant_is_scaled_by_its_own_rule(tiny_model: Path) -> None:
    def scale(variant: Any) -> float:
        causal = load_model(
            str(tiny_model), device="cpu", precision="fp32", attention="auto"
        ).causal
        wrap_in_lora(causal, Lora(rank=16, alpha=8, variant=variant))
        found: float = causal.model.layers[0].self_attn.q_proj.scaling["default"]
        return found

    assert [scale(v) for v in ("lora", "dora", "rslora")] == [0.5, 0.5, 2.0]


@pytest.mark.parametrize("variant", ["dora", "rslora"])
def test_a_saved_adapter_on_some_layers_gives_the_same_logits(
    tiny_model: Path, tmp_path: Path, variant: Any
) -> None:
    def base() -> Any:
        return load_model(str(tiny_model), device="cpu", precision="fp32", attention="auto")

    ids = torch.arange(8)[None]
    made = add_lora(base(), Lora(rank=R, variant=variant, layers=[1]), "base", 0)
    plain = base().causal(ids).logits
    torch.testing.assert_close(made.network(ids).logits, plain)
    with torch.no_grad():
        for parameter in made.trainable().values():
            parameter.add_(0.05)
    assert not torch.allclose(made.network(ids).logits, plain)
    save_weights(made, tmp_path)
    again = load_adapter(base(), tmp_path)
    assert torch.equal(again.network(ids).logits, made.network(ids).logits)
    assert set(again.trainable()) == set(made.trainable())
    assert all(".layers.1." in name for name in made.trainable())


def test_a_plan_counts_named_layers_and_rehearses_them_all() -> None:
    config = copy.deepcopy(LLAMA)
    config.num_hidden_layers = 10
    config.layer_types = None
    recipe = recipe_from_mapping(
        {
            "name": "x",
            "model": "m",
            "data": [{"path": "x"}],
            "method": "lora",
        },
        "run",
        Path(),
    ).recipe

    def planned(lora: Lora) -> tuple[MemoryPlanner, int]:
        changed = recipe.model_copy(update={"lora": lora})
        planner = MemoryPlanner(Setting(config, changed, "fp32", parse_device("cpu")))
        peak = planner.train_peak(Shape((32,), (32,)), accumulates=False)
        return planner, peak.parts["activations"]

    few, kept = planned(Lora(rank=R, layers="last:2"))
    assert few.parameters.trainable == 2 * PER_LAYER["llama"]
    assert few.words[0] == f"2 layers x {PER_LAYER['llama']:,}"
    # The eight layers below need no gradient, so what they made is not kept.
    assert kept < planned(Lora(rank=R))[1] / 2
    dora, _ = planned(Lora(rank=R, variant="dora"))
    assert dora.parameters.adapter == 10 * (PER_LAYER["llama"] + 2 * D + 2 * 32 + 2 * 160 + D)
