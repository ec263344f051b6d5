"""Counting parameters by the kind of module they belong to."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import (
    FalconConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MixtralConfig,
    OPTConfig,
    Qwen3Config,
)

from tunebook.models.skeleton import add_lora_to_skeleton, build_skeleton
from tunebook.plan.counts import GROUPS, adapter_words, count_parameters
from tunebook.plan.result import Parameters
from tunebook.recipe.tree import Lora

# 8 query heads share 2 of keys and values, so attention is not square.
GQA = LlamaConfig(
    vocab_size=100,
    hidden_size=64,
    intermediate_size=160,
    num_hidden_layers=3,
    num_attention_heads=8,
    num_key_value_heads=2,
    tie_word_embeddings=False,
)
SMALL = {"vocab_size": 100, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
ARCHITECTURES = [
    GQA,
    GPT2Config(vocab_size=100, n_embd=64, n_layer=2, n_head=4),
    GPTNeoXConfig(**SMALL, intermediate_size=256),
    OPTConfig(**SMALL, ffn_dim=256, word_embed_proj_dim=64),
    FalconConfig(**SMALL),
    Qwen3Config(**SMALL, intermediate_size=256, num_key_value_heads=2),
    MixtralConfig(**SMALL, intermediate_size=256, num_key_value_heads=2, num_local_experts=4),
]


def count(config: Any, lora: Lora | None = None, *, quantized: bool = False) -> Parameters:
    causal = build_skeleton(config)
    network = causal if lora is None else add_lora_to_skeleton(causal, lora)
    return count_parameters(network, causal, quantized=quantized)


def test_each_group_of_a_llama_with_shared_keys_is_exact() -> None:
    found = count(GQA)
    assert found.groups == {
        "embeddings": 100 * 64,
        "attention": 3 * (64 * 64 + 2 * (64 * 16) + 64 * 64),
        "mlp": 3 * 3 * 64 * 160,
        "norms": (2 * 3 + 1) * 64,
        "head": 100 * 64,
        "other": 0,
    }


@pytest.mark.parametrize("config", ARCHITECTURES, ids=lambda c: c.model_type)
def test_groups_add_up_and_every_parameter_of_a_decoder_is_of_a_known_kind(config: Any) -> None:
    found = count(config)
    assert tuple(found.groups) == GROUPS
    assert sum(found.groups.values()) == found.total
    assert found.total == sum(p.numel() for p in build_skeleton(config).parameters())
    assert found.groups["other"] == 0
    assert min(found.groups[kind] for kind in ("embeddings", "attention", "mlp", "norms")) > 0


def test_a_tied_head_counts_once_and_is_told_apart() -> None:
    apart = count(GQA)
    tied = count(LlamaConfig(**{**GQA.to_diff_dict(), "tie_word_embeddings": True}))
    assert apart.total == apart.total_untied == tied.total_untied
    assert tied.total == apart.total - 100 * 64
    assert tied.groups["head"] == 0
    assert tied.groups["embeddings"] == apart.groups["embeddings"]


@pytest.mark.parametrize("config", ARCHITECTURES, ids=lambda c: c.model_type)
def test_an_adapter_changes_no_count_of_the_base(config: Any) -> None:
    base, adapted = count(config), count(config, Lora(rank=4))
    assert (base.adapter, base.trainable) == (0, base.total)
    assert adapted.adapter == adapted.trainable > 0
    assert (adapted.total, adapted.total_untied) == (base.total, base.total_untied)
    assert adapted.groups == base.groups


def test_an_adapter_on_the_head_leaves_the_head_what_it_is() -> None:
    found = count(GQA, Lora(rank=4, target_modules=["q_proj", "lm_head"]))
    assert found.groups["head"] == 100 * 64
    assert found.adapter == 4 * (3 * (64 + 64) + 64 + 100)
    assert found.adapted_width == 64  # q_proj and the head; keys alone have 16 outputs
    assert count(GQA, Lora(rank=4, target_modules=["k_proj"])).adapted_width == 16


def test_packing_halves_linear_weights_only_and_rounds_up() -> None:
    # 3 * 3 values need 5 bytes; embeddings, norms and the head stay whole.
    odd = LlamaConfig(
        vocab_size=7,
        hidden_size=3,
        intermediate_size=3,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=3,
        tie_word_embeddings=False,
    )
    assert count(odd, quantized=True).packed == 7 * 5 + 2 * 7 * 3 + 3 * 3
    assert count(odd).packed is None


def test_gpt2_with_its_transposed_weights_packs_like_any_other() -> None:
    found = count(GPT2Config(vocab_size=100, n_embd=64, n_layer=2, n_head=4), quantized=True)
    assert found.packed == found.total - 2 * 12 * 64 * 64 // 2


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        ("all-linear", "3 layers x 4,352"),
        (["q_proj", "lm_head"], "3 layers x 512 + 656 outside of layers"),
        (r".*layers\.1\.self_attn\.q_proj", "1 layer x 512"),
        (r".*(layers\.1\.mlp\.up_proj|q_proj)", "3 layers x 512 to 1,408"),
    ],
)
def test_an_adapter_is_told_by_its_layers(targets: str | list[str], words: str) -> None:
    network = add_lora_to_skeleton(build_skeleton(GQA), Lora(rank=4, target_modules=targets))
    assert adapter_words(network) == words


def test_a_model_without_an_adapter_has_no_words_for_one() -> None:
    assert adapter_words(build_skeleton(GQA)) is None


@pytest.mark.parametrize(
    ("layers", "added", "share"), [("all", (), 1.0), ("last:1", (), 1 / 3), ("last:1", (5,), 1.0)]
)
def test_a_gradient_goes_down_to_the_lowest_weight_that_learns(
    layers: str, added: tuple[int, ...], share: float
) -> None:
    causal = build_skeleton(GQA)
    network = add_lora_to_skeleton(causal, Lora(layers=layers), added)
    assert count_parameters(network, causal, quantized=False).through == pytest.approx(share)
    assert count(GQA).through == 1.0
