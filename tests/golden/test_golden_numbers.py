"""The numbers that the five notebooks print, and those that follow from them by arithmetic."""

from __future__ import annotations

import csv
import gzip
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from notebook_layouts import (
    A10_BYTES,
    CONTEXT_BYTES,
    GALACTICA_125M,
    GIB,
    evaluation_bytes,
    evaluation_bytes_with_blocks_of_training,
    fully_sharded_bytes,
    layer_bytes,
    sharded_optimizer_bytes,
    training_bytes,
)
from tunebook.data.order import TrainSet
from tunebook.models.skeleton import add_lora_to_skeleton, build_skeleton, load_config
from tunebook.plan.counts import count_parameters
from tunebook.plan.result import Parameters
from tunebook.recipe.tree import Lora, Recipe
from tunebook.step.horizon import Horizon, plan_horizon
from tunebook.workflows.recipes import FOLDER as RECIPES

CONFIGS = Path(__file__).parent / "configs"
"""Of the models that no recipe has; those of the recipes lie beside their full run files."""
GPT2 = {
    "gpt2": (163037184, 124439808),
    "gpt2-medium": (406286336, 354823168),
    "gpt2-large": (838359040, 774030080),
    "gpt2-xl": (1638022400, 1557611200),
}
EVERY_LINEAR_OF_MISTRAL = [
    *("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head")
]


def config_folder(name: str) -> Path:
    return next(iter(sorted(RECIPES.glob(f"*/full/{name}"))), CONFIGS / name)


def config_of(name: str, **changes: object) -> Any:
    config = load_config(str(config_folder(name)))
    for key, value in changes.items():
        setattr(config, key, value)
    return config


def count(config: Any, lora: Lora | None = None) -> Parameters:
    causal = build_skeleton(config)
    network = causal if lora is None else add_lora_to_skeleton(causal, lora)
    return count_parameters(network, causal, quantized=True)


@pytest.mark.parametrize("name", GPT2)
def test_gpt2_counts_with_the_tied_head_once_and_apart(name: str) -> None:
    found = count(config_of(name))
    assert (found.total_untied, found.total) == GPT2[name]


@pytest.mark.parametrize("name", GPT2)
def test_gpt2_counts_follow_from_its_shape(name: str) -> None:
    c = config_of(name)
    vocabulary, positions, width, layers = c.vocab_size, c.n_positions, c.n_embd, c.n_layer
    formula = (
        2 * vocabulary * width
        + positions * width
        + layers * (12 * width**2 + 13 * width)
        + 2 * width
    )
    assert formula == GPT2[name][0]


@pytest.mark.parametrize(
    ("name", "mib"), [("gpt2-medium", 1549.86), ("gpt2-large", 3198.09), ("gpt2-xl", 6248.56)]
)
def test_gpt2_as_fp32_in_the_notebooks_megabytes(name: str, mib: float) -> None:
    assert round(count(config_of(name)).total_untied * 4 / 2**20, 2) == mib


def lora_of_the_notebook(rank: int, layers: int, width: int, vocabulary: int) -> int:
    """A matrix of a x b gets rank * (a + b); q, k, v and output are square, the MLP is 4 wide."""
    layer = 4 * (width + width) + (width + 4 * width) + (4 * width + width)
    head = width + vocabulary
    return rank * (layers * layer + head)


@pytest.mark.parametrize(
    ("name", "rank", "expected"),
    [
        ("gpt2-medium", 2, 987298),
        ("gpt2-medium", 4, 1974596),
        ("gpt2-medium", 8, 3949192),
        ("gpt2-medium", 16, 7898384),
        ("gpt2-medium", 32, 15796768),
        ("gpt2-medium", 64, 31593536),
        ("gpt2-large", 16, 14095632),
    ],
)
def test_lora_on_every_linear_layer_and_the_head(name: str, rank: int, expected: int) -> None:
    shape = config_of(name)
    assert lora_of_the_notebook(rank, shape.n_layer, shape.n_embd, shape.vocab_size) == expected
    # OPT holds q, k and v apart, as the notebook's own GPT-2 does.
    same_shape = config_of(
        "galactica-125m",
        vocab_size=shape.vocab_size,
        hidden_size=shape.n_embd,
        word_embed_proj_dim=shape.n_embd,
        ffn_dim=4 * shape.n_embd,
        num_hidden_layers=shape.n_layer,
        num_attention_heads=shape.n_head,
        tie_word_embeddings=False,
    )
    targets = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2", "lm_head"]
    assert count(same_shape, Lora(rank=rank, target_modules=targets)).adapter == expected


def test_peft_on_all_linear_layers_of_gpt2_medium() -> None:
    found = count(config_of("gpt2-medium"), Lora(rank=16))
    assert (found.adapter, found.trainable, found.total) == (6291456, 6291456, 354823168)


@pytest.mark.parametrize(("rank", "expected"), [(8, 21260288), (32, 85041152)])
def test_mistral_with_lora_on_every_linear_layer_and_the_head(rank: int, expected: int) -> None:
    found = count(config_of("mistral-7b"), Lora(rank=rank, target_modules=EVERY_LINEAR_OF_MISTRAL))
    assert (found.total, found.adapter) == (7241732096, expected)


def test_a_count_over_packed_weights_makes_an_adapter_look_twice_as_large() -> None:
    found = count(config_of("mistral-7b"), Lora(rank=32, target_modules=EVERY_LINEAR_OF_MISTRAL))
    assert found.packed == 3752071168
    assert found.packed + found.adapter == 3837112320
    assert round(100 * found.adapter / (found.packed + found.adapter), 2) == 2.22
    assert round(100 * found.adapter / (found.total + found.adapter), 2) == 1.16


def test_gpt_j_6b() -> None:
    assert count(config_of("gpt-j-6b")).total == 6050882784


@pytest.mark.parametrize(
    ("name", "billions"),
    [("125m", 0.125), ("1.3b", 1.3), ("6.7b", 6.7), ("30b", 30.0), ("120b", 121.3)],
)
def test_the_galactica_ladder_is_as_large_as_its_names_say(name: str, billions: float) -> None:
    assert count(config_of(f"galactica-{name}")).total / 1e9 == pytest.approx(billions, rel=0.02)


def test_llamas_are_as_large_as_their_makers_say() -> None:
    assert count(config_of("llama-2-7b")).total == 6738415616
    assert count(config_of("llama-3.1-8b")).total == 8030261248


@dataclass
class Rows:
    """All that a horizon needs to know of a training set."""

    rows_per_epoch: int
    tokens_per_epoch: int = 1


def horizon(rows: int, batch: int) -> Horizon:
    recipe = Recipe.model_validate(
        {
            "name": "r",
            "model": "m",
            "data": [{"path": "p"}],
            "train": {"effective_batch_size": batch},
        }
    )
    return plan_horizon(recipe, cast(TrainSet, Rows(rows)))


def test_the_alpaca_notebooks_last_printed_step_tells_how_many_rows_it_had() -> None:
    # It counts from 0, prints every 25 steps and leaves out a last row without a partner. Its last
    # line is of step 5975, so the step numbered 6000 was not reached.
    batches = [n for n in range(5000, 7000) if (n - 1) // 25 * 25 == 5975]
    assert (batches[0], batches[-1]) == (5976, 6000)
    rows = [n for n in range(10000, 14000) if n // 2 in batches]
    assert (rows[0], rows[-1]) == (11952, 12001)
    assert horizon(11952, batch=2).total_steps == 5976
    assert [n for n in range(1, 5977) if horizon(11952, batch=2).due(25, n)][-1] == 5975


def test_a_part_of_pygmalion_and_the_days_of_all_ten() -> None:
    steps = horizon(682701, batch=256).total_steps
    seconds = (2 * 24 + 21) * 3600
    assert (steps, seconds) == (2667, 248400)
    assert round(682701 / seconds, 3) == 2.748
    assert 10 * seconds / 86400 == 28.75


def test_pygmalions_memory_per_gpu_before_activations() -> None:
    parameters = count(config_of("gpt-j-6b")).total
    assert round(sharded_optimizer_bytes(parameters, 4) / 1e9, 1) == 42.4
    assert round(fully_sharded_bytes(parameters, 4) / 1e9) == 24


def test_ten_releases_of_pygmalion_take_121_gigabytes() -> None:
    bf16 = 2
    assert round(10 * bf16 * count(config_of("gpt-j-6b")).total / 1e9) == 121


def test_the_quotes_notebooks_batch_of_8_does_not_fit_24_gigabytes_but_one_row_does() -> None:
    assert GALACTICA_125M.parameters == count(config_of("galactica-125m")).total
    assert training_bytes(GALACTICA_125M, 8, 1024) / GIB == pytest.approx(27, abs=0.5)
    assert training_bytes(GALACTICA_125M, 8, 1024) > A10_BYTES
    assert training_bytes(GALACTICA_125M, 1, 1024) / GIB == pytest.approx(5, abs=0.1)


def test_the_quotes_notebooks_evaluation_is_the_40_percent_its_author_could_not_explain() -> None:
    tensors = evaluation_bytes(GALACTICA_125M, 8, 1024)
    assert tensors > 1.35 * training_bytes(GALACTICA_125M, 1, 1024)
    for context in CONTEXT_BYTES:
        assert 8 <= (tensors + context) / GIB <= 9
    # 40 % lies between evaluation in blocks that training left, and evaluation beside them.
    beside = evaluation_bytes_with_blocks_of_training(GALACTICA_125M, trained_rows=1, rows=8)
    assert tensors + max(CONTEXT_BYTES) < 0.4 * A10_BYTES < beside + min(CONTEXT_BYTES)


def kept_for_backward(layers: int, rows: int, tokens: int) -> int:
    """Bytes that autograd keeps of a forward pass, weights aside, on tensors without data."""
    config = config_of(
        "galactica-125m", num_hidden_layers=layers, use_cache=False, dtype=torch.float32
    )
    config._attn_implementation = "eager"
    causal = build_skeleton(config).train()
    weights = {p.untyped_storage()._cdata for p in causal.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}  # held, so that no address comes twice

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = causal(torch.zeros(rows, tokens, dtype=torch.long, device="meta"))
    del output
    return sum(storage.nbytes() for storage in kept.values())


@pytest.mark.parametrize(("rows", "tokens"), [(8, 1024), (1, 256)])
def test_a_layer_of_the_quotes_notebook_is_what_autograd_keeps(rows: int, tokens: int) -> None:
    # The transformers of today has no clamp, and tensors without data have fp32 dropout masks.
    one_layer = kept_for_backward(2, rows, tokens) - kept_for_backward(1, rows, tokens)
    formula = layer_bytes(GALACTICA_125M, rows, tokens, clamped=False, mask_bytes=4)
    assert one_layer == pytest.approx(formula, rel=0.01)


@pytest.mark.shared_data
def test_the_quotes_validation_file_has_its_rows_and_characters(shared_data: Path) -> None:
    # Its 31 keywords and 42 duplicates are counted in the tests of the readers and filters.
    path = shared_data / "quotes" / "gptj-quotes-validation.csv.gz"
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    assert (len(texts), sum(map(len, texts))) == (7962, 1362397)


def test_a_difference_of_two_judged_means_is_sure_to_about_11_points() -> None:
    sd_assumed, n = 40, 100
    assert round(1.96 * sd_assumed * math.sqrt(2 / n)) == 11
