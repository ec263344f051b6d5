"""4-bit weights: what they compute, how they count, and what an adapter on them belongs to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("bitsandbytes", reason="the extra `quant` is not installed")

from tunebook.errors import ModelError
from tunebook.models.load import LoadedModel, add_lora, load_adapter, load_model, save_weights
from tunebook.models.quantize import take_quantized_values
from tunebook.models.skeleton import load_config
from tunebook.recipe.methods import Lora, Quantization
from tunebook.step.check import choose_scorer
from tunebook.step.forward import Scorer

IDS = torch.tensor([[5, 9, 30, 12, 44, 7]])


def load(folder: Path, quantization: Quantization | None = None, precision: str = "fp32"):
    return load_model(
        str(folder),
        device="cpu",
        precision=precision,
        attention="auto",
        quantization=quantization,
    )


def logits(network: Any) -> torch.Tensor:
    with torch.no_grad():
        return network.eval()(input_ids=IDS).logits.float()


def moved(loaded: LoadedModel) -> LoadedModel:
    """Put an adapter on a model that changes what it says."""
    loaded = add_lora(loaded, Lora(rank=4, alpha=8), "base", seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in loaded.trainable().values():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return loaded


@pytest.fixture(params=["tiny_gpt2", "tiny_model"])
def folder(request: pytest.FixtureRequest) -> Path:
    found: Path = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize("double", [True, False])
def test_a_quantized_model_computes_with_its_dequantized_weights(
    folder: Path, double: bool
) -> None:
    quantized, plain = load(folder, Quantization(double=double)), load(folder)
    untouched = logits(plain.causal)
    assert not torch.allclose(logits(quantized.causal), untouched, atol=1e-3)
    take_quantized_values(plain.causal, quantized.causal)
    torch.testing.assert_close(logits(quantized.causal), logits(plain.causal), atol=1e-5, rtol=0)


def test_every_linear_layer_but_the_head_is_packed_and_counts_what_it_stands_for(
    folder: Path,
) -> None:
    plain, quantized = load(folder), load(folder, Quantization())
    packed = [m for m in quantized.causal.modules() if type(m).__name__ == "Linear4bit"]
    assert len(packed) == (14 if "llama" in folder.name else 8)
    adapted = moved(quantized)
    assert adapted.counts()["total"] == plain.counts()["total"]
    assert all("lora_" in name for name in adapted.trainable())
    assert choose_scorer(load(folder, Quantization()), 300) == Scorer(True, True)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_adapter_merged_into_the_dequantized_base_says_the_same(
    folder: Path, precision: str, tmp_path: Path
) -> None:
    trained = moved(load(folder, Quantization(), precision))
    save_weights(trained, tmp_path)
    plain = load(folder)
    take_quantized_values(plain.causal, load(folder, Quantization(), precision).causal)
    merged = load_adapter(plain, tmp_path).network.merge_and_unload()
    # bf16 keeps 8 bits of each product, through two layers; fp32 only sums in another order.
    tolerance = {"fp32": 1e-5, "bf16": 0.05}[precision]
    torch.testing.assert_close(logits(trained.network), logits(merged), atol=tolerance, rtol=0)


def test_the_same_files_give_the_same_bits(folder: Path) -> None:
    first, second = (dict(load(folder, Quantization()).causal.state_dict()) for _ in range(2))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_base_that_is_stored_in_4_bits_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    load(tiny_model, Quantization()).causal.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"stored quantized.*method: qlora"):
        load_config(str(tmp_path))


def test_without_bitsandbytes_a_sentence_says_what_to_install(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunebook.models.quantize.is_bitsandbytes_available", lambda: False)
    with pytest.raises(ModelError, match=r"pip install 'tunebook\[quant\]'.*method: lora"):
        load(tiny_model, Quantization())


def test_a_device_without_4_bit_weights_is_named(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bitsandbytes.supported_torch_devices", {"cuda"})
    with pytest.raises(ModelError, match=r"'cpu', only on cuda.*method: lora"):
        load(tiny_model, Quantization())
