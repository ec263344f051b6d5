"""New tokens: in the tokenizer, with rows of their own, trained alone beside an adapter."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, GPT2Config, GPTJConfig, LlamaConfig

from tunebook.data.batches import MicroBatch
from tunebook.errors import ModelError
from tunebook.models.export import Under, write_merged
from tunebook.models.layers import freeze_modules
from tunebook.models.load import (
    LoadedModel,
    add_lora,
    grow_vocabulary,
    load_adapter,
    load_model,
    save_weights,
)
from tunebook.models.skeleton import add_lora_to_skeleton, build_skeleton, with_rows_for
from tunebook.models.tokenizer import Codec, load_tokenizer
from tunebook.plan.counts import count_parameters
from tunebook.plan.devices import parse_device
from tunebook.plan.memory import MemoryPlanner, Setting
from tunebook.recipe.methods import Lora
from tunebook.recipe.tree import Recipe
from tunebook.step.forward import Scorer, token_losses
from tunebook.workflows.model import build_model

NEW = ["<|knowledge|>", "<|fact|>"]
V, D, R = 300, 32, 4


def load(folder: Path) -> LoadedModel:
    return load_model(str(folder), device="cpu", precision="fp32", attention="auto")


@pytest.fixture
def grown(tiny_model: Path, tmp_path: Path) -> Codec:
    return load_tokenizer(str(tiny_model), NEW, tmp_path)


def llama(*, tied: bool, rows: int = V) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=rows,
        hidden_size=D,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        tie_word_embeddings=tied,
    )


def test_the_text_of_a_new_token_is_one_token_and_other_text_is_as_before(
    tiny_model: Path, grown: Codec
) -> None:
    before = load_tokenizer(str(tiny_model))
    ids, counts, *_ = grown.encode_flat(
        ["a <|knowledge|>b<|fact|>", "the old sailor"], specials=False
    )
    assert list(grown.added_ids) == [V, V + 1]
    assert [int(i) for i in ids if i >= V] == [V, V + 1]
    assert grown.decode(ids[: counts[0]].tolist()) == "a <|knowledge|>b<|fact|>"
    plain = before.encode_flat(["the old sailor"], specials=False)[0]
    assert ids[counts[0] :].tolist() == plain.tolist()
    assert grown.special_strings == before.special_strings


def test_a_grown_tokenizer_is_another_one_for_caches_and_the_same_each_time(
    tiny_model: Path, grown: Codec, tmp_path: Path
) -> None:
    again = load_tokenizer(str(tiny_model), NEW, tmp_path / "elsewhere")
    others = [load_tokenizer(str(tiny_model), t, tmp_path) for t in ([], NEW[:1], NEW[::-1])]
    assert again.fingerprint == grown.fingerprint
    assert len({grown.fingerprint, *(other.fingerprint for other in others)}) == 4


def test_a_token_that_is_there_already_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has '<\|endoftext\|>' already"):
        load_tokenizer(str(tiny_model), ["<|endoftext|>"], tmp_path)


@pytest.mark.parametrize("tokens", [["<a>", "<a>"], [" "], [""]])
def test_tokens_are_visible_and_named_once(tokens: list[str]) -> None:
    with pytest.raises(ValueError, match="visible text, each once"):
        Recipe.model_validate(
            {"name": "a", "model": "m", "data": [{"path": "x"}], "add_tokens": tokens}
        )


@pytest.mark.parametrize("model", ["tiny_model", "tiny_gpt2"])
def test_new_rows_are_the_same_in_every_run_and_old_ones_stay(
    model: str, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(model)
    before = load(folder).causal.get_input_embeddings().weight
    one, two = (grow_vocabulary(load(folder), (V, V + 1), seed=3) for _ in range(2))
    rows = one.causal.get_input_embeddings().weight
    assert rows.shape == (V + 2, D)
    assert torch.equal(rows, two.causal.get_input_embeddings().weight)
    assert torch.equal(rows[:V], before)
    assert one.causal.get_output_embeddings().weight is rows


def test_a_model_with_spare_rows_is_not_cut_down_to_its_tokenizer(tiny_model: Path) -> None:
    loaded = load(tiny_model)
    loaded.causal.resize_token_embeddings(V + 20, mean_resizing=False)
    same = grow_vocabulary(loaded, (V, V + 1), seed=0)
    assert same.causal.get_input_embeddings().weight.shape[0] == V + 20
    assert same.notes == ("add_tokens: the model has 320 embeddings, which are enough",)
    assert with_rows_for(llama(tied=True, rows=V + 20), (V, V + 1)).vocab_size == V + 20


def test_rows_that_a_run_made_are_no_news_to_its_own_checkpoint(
    tiny_model: Path, grown: Codec, tmp_path: Path
) -> None:
    recipe = Recipe.model_validate(
        {"name": "a", "model": str(tiny_model), "data": [{"path": "x"}], "add_tokens": NEW}
        | {"device": "cpu", "precision": "fp32"}
    )
    first, _ = build_model(recipe, {}, grown, None, checkpointing=False)
    save_weights(first, tmp_path / "step-1")
    again, _ = build_model(recipe, {}, grown, tmp_path / "step-1", checkpointing=False)
    assert first.notes == again.notes == ()


def test_only_the_new_rows_learn_beside_an_adapter() -> None:
    lora = R * 2 * (4 * (D + D) + 3 * (D + 64))

    def counted(config: Any) -> tuple[int, int]:
        config = with_rows_for(config, (V, V + 1))
        causal = build_skeleton(config)
        network = add_lora_to_skeleton(causal, Lora(rank=R), (V, V + 1))
        found = count_parameters(network, causal, quantized=False)
        assert found.adapter == found.trainable
        assert (
            found.total_untied
            == count_parameters(*[build_skeleton(config)] * 2, quantized=False).total_untied
        )
        return found.total, found.adapter

    body = 2 * (4 * D * D + 3 * D * 64 + 2 * D) + D
    assert counted(llama(tied=True)) == ((V + 2) * D + body, lora + 2 * D)
    assert counted(llama(tied=False)) == (2 * (V + 2) * D + body, lora + 2 * 2 * D)


def test_what_peft_would_train_wrongly_is_refused() -> None:
    gptj = GPTJConfig(vocab_size=V, n_embd=D, n_layer=2, n_head=4, rotary_dim=4)
    with pytest.raises(ModelError, match="bias of this model's head"):
        add_lora_to_skeleton(build_skeleton(gptj), Lora(), (V - 1,))
    both = Lora(target_modules=["q_proj", "lm_head"])
    with pytest.raises(ModelError, match="trains rows of lm_head"):
        add_lora_to_skeleton(build_skeleton(llama(tied=False)), both, (V - 1,))


def test_new_tokens_with_a_frozen_embedding_are_refused() -> None:
    with pytest.raises(ModelError, match="keeps the embeddings of `add_tokens` from learning"):
        freeze_modules(build_skeleton(llama(tied=False)), ["embed_tokens"], (V - 1,))
    freeze_modules(build_skeleton(llama(tied=False)), ["lm_head"], (V - 1,))


@pytest.mark.parametrize("tied", [True, False])
def test_new_rows_get_the_gradient_of_the_plain_model(tied: bool, tmp_path: Path) -> None:
    from transformers import LlamaForCausalLM

    torch.manual_seed(0)
    LlamaForCausalLM(llama(tied=tied)).save_pretrained(tmp_path)
    ids = np.array([5, V, 7, V + 1, 9, V, 11], dtype=np.int64)
    place = np.arange(7)
    batch = MicroBatch(ids, place, place > 0, 0 * place, (7,), ("a",), ("d",))

    def gradients(*, direct: bool) -> dict[str, torch.Tensor]:
        loaded = grow_vocabulary(load(tmp_path), (V, V + 1), seed=0)
        loaded = add_lora(loaded, Lora(rank=R), "base", 0, (V, V + 1))
        token_losses(loaded, Scorer(flat=True, direct_head=direct), batch).loss_sum.backward()
        return {
            n: p.grad for n, p in loaded.trainable().items() if "tokens" in n and p.grad is not None
        }

    whole = grow_vocabulary(load(tmp_path), (V, V + 1), seed=0)
    token_losses(whole, Scorer(flat=True, direct_head=False), batch).loss_sum.backward()
    embedding, head = (
        module.weight.grad[V:]
        for module in (whole.causal.get_input_embeddings(), whole.causal.get_output_embeddings())
    )
    for found in (gradients(direct=True), gradients(direct=False)):
        assert len(found) == (1 if tied else 2)
        for name, grad in found.items():
            plain = head if "lm_head" in name else embedding
            # A new row is short, and the norm above it makes its gradients large.
            close = 1e-6 * float(plain.abs().max())
            torch.testing.assert_close(grad, plain, rtol=1e-5, atol=close)


def test_saved_rows_and_tokenizer_are_taken_up_again(
    tiny_model: Path, grown: Codec, tmp_path: Path
) -> None:
    ids = torch.tensor([[5, V, 9, V + 1]])
    made = grow_vocabulary(load(tiny_model), grown.added_ids, seed=0)
    made = add_lora(replace(made, folder=grown.folder), Lora(rank=R), "base", 0, grown.added_ids)
    with torch.no_grad():
        for parameter in made.trainable().values():
            parameter.add_(0.1)
    save_weights(made, tmp_path / "adapter")
    # Of another seed, so that rows which were not saved would differ.
    again = load_adapter(
        grow_vocabulary(load(tiny_model), grown.added_ids, seed=9), tmp_path / "adapter"
    )
    assert torch.equal(again.network(ids).logits, made.network(ids).logits)
    assert set(again.trainable()) == set(made.trainable())
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "adapter")
    assert tokenizer.convert_tokens_to_ids(NEW) == [V, V + 1]
    write_merged(tmp_path / "adapter", tmp_path / "merged", Under(tiny_model, None, V + 2))
    merged = load(tmp_path / "merged").causal
    torch.testing.assert_close(merged(ids).logits, made.network(ids).logits)


@pytest.mark.parametrize("make", [llama, GPT2Config])
def test_a_plan_knows_new_rows(make: Any) -> None:
    gpt2 = GPT2Config(vocab_size=V, n_embd=D, n_layer=2, n_head=4)
    config = gpt2 if make is GPT2Config else llama(tied=True)

    def planned(method: str, added_ids: tuple[int, ...]) -> MemoryPlanner:
        recipe = Recipe.model_validate(
            {"name": "a", "model": "m", "data": [{"path": "x"}], "method": method}
        )
        known = with_rows_for(config, added_ids) if added_ids else config
        setting = Setting(known, recipe, "fp32", parse_device("t4"), added_ids=added_ids)
        return MemoryPlanner(setting)

    full = [planned("full", ids).parameters for ids in ((), (V, V + 1))]
    assert full[1].total - full[0].total == full[1].trainable - full[0].trainable == 2 * D
    lora = [planned("lora", ids).parameters for ids in ((), (V, V + 1))]
    assert lora[1].trainable - lora[0].trainable == 2 * D
    assert lora[1].total - lora[0].total == 2 * D
