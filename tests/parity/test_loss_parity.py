"""Losses and gradients against transformers' own, and under every way of batching."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tunebook.data.batches import MicroBatch
from tunebook.models.load import LoadedModel, add_lora, load_model, save_weights
from tunebook.models.tokenizer import load_tokenizer
from tunebook.recipe.tree import Lora, Recipe, Train
from tunebook.step.check import choose_scorer
from tunebook.step.forward import Scorer, token_losses
from tunebook.step.movement import WeightSample
from tunebook.step.optimization import Optimization
from tunebook.step.score import score_examples
from tunebook.step.update import take_step
from tunebook.workflows.model import build_model

LENGTHS = (9, 4, 17, 6, 12, 3, 8, 11)


def documents(seed: int = 0) -> list[tuple[list[int], list[bool]]]:
    """Make eight documents with about half of their tokens as targets."""
    rng = np.random.default_rng(seed)
    rows = []
    for length in LENGTHS:
        target = [False, *(bool(x) for x in rng.random(length - 1) < 0.5)]
        target[-1] = True
        rows.append((rng.integers(5, 200, length).tolist(), target))
    return rows


def lay_out(rows: Sequence[tuple[list[int], list[bool]]]) -> MicroBatch:
    lengths = tuple(len(ids) for ids, _ in rows)
    return MicroBatch(
        ids=np.concatenate([np.array(ids, dtype=np.int64) for ids, _ in rows]),
        positions=np.concatenate([np.arange(n, dtype=np.int64) for n in lengths]),
        target=np.concatenate([np.array(target) for _, target in rows]),
        segment=np.repeat(np.arange(len(rows)), lengths),
        lengths=lengths,
        example_ids=tuple(f"d#{i}" for i in range(len(rows))),
        sources=("d",) * len(rows),
    )


def load(folder: Path, attention: str = "auto") -> LoadedModel:
    return load_model(str(folder), device="cpu", precision="fp32", attention=attention)


@pytest.fixture(params=["tiny_model", "tiny_gpt2"])
def folder(request: pytest.FixtureRequest) -> Path:
    path: Path = request.getfixturevalue(request.param)
    return path


def test_flat_rows_give_transformers_own_loss(folder: Path) -> None:
    loaded = load(folder)
    scorer = choose_scorer(loaded, 250)
    assert scorer == Scorer(flat=True, direct_head=True)
    rows = documents()
    scored = score_examples(loaded, scorer, [lay_out(rows)])
    plain = load(folder, "eager").causal.eval()
    for (ids, target), found in zip(rows, scored, strict=True):
        ids_1T = torch.tensor([ids])
        labels_1T = torch.where(torch.tensor([target]), ids_1T, -100)
        with torch.no_grad():
            loss = plain(input_ids=ids_1T, labels=labels_1T).loss
        assert found.target_tokens == sum(target)
        assert found.loss_sum / found.target_tokens == pytest.approx(float(loss), rel=1e-5)


def gradients(folder: Path, sizes: Sequence[int], scorer: Scorer) -> dict[str, torch.Tensor]:
    loaded = load(folder, "auto" if scorer.flat else "sdpa")
    loaded.causal.eval()  # no dropout: its draw depends on the layout
    rows, start = documents(), 0
    total = sum(sum(target) for _, target in rows)
    for size in sizes:
        found = token_losses(loaded, scorer, lay_out(rows[start : start + size]))
        (found.loss_sum / total).backward()
        start += size
    return {n: p.grad for n, p in loaded.causal.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    ("sizes", "scorer"),
    [
        ([1] * 8, Scorer(flat=True, direct_head=True)),
        ([2] * 4, Scorer(flat=True, direct_head=True)),
        ([3, 5], Scorer(flat=True, direct_head=False)),
        ([8], Scorer(flat=False, direct_head=True)),
        ([8], Scorer(flat=False, direct_head=False)),
    ],
)
def test_gradients_do_not_depend_on_the_batching(
    folder: Path, sizes: list[int], scorer: Scorer
) -> None:
    packed = gradients(folder, [8], Scorer(flat=True, direct_head=True))
    other = gradients(folder, sizes, scorer)
    assert packed.keys() == other.keys()
    for name, grad in packed.items():
        torch.testing.assert_close(other[name], grad, rtol=1e-5, atol=1e-7, msg=name)


def test_an_accumulated_gradient_equals_transformers_gradient(folder: Path) -> None:
    ours = gradients(folder, [2] * 4, Scorer(flat=True, direct_head=True))
    plain = load(folder, "eager").causal.eval()
    total = sum(sum(target) for _, target in documents())
    for ids, target in documents():
        ids_1T = torch.tensor([ids])
        labels_1T = torch.where(torch.tensor([target]), ids_1T, -100)
        (plain(input_ids=ids_1T, labels=labels_1T).loss * sum(target) / total).backward()
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(ours[name], parameter.grad, rtol=1e-4, atol=1e-6)


def step_once(loaded: LoadedModel, train: Train, rows: Sequence[tuple[list[int], list[bool]]]):  # type: ignore[no-untyped-def]
    optimization = Optimization(loaded.trainable(), train)
    return take_step(
        loaded,
        Scorer(flat=True, direct_head=True),
        optimization,
        WeightSample(optimization.parameters),
        [lay_out(rows[:4]), lay_out(rows[4:])],
        learning_rate=train.learning_rate,
        max_grad_norm=train.max_grad_norm,
        seed=0,
        step=1,
    )


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_step_equals_a_plain_torch_step(tiny_model: Path, optimizer: str) -> None:
    train = Train(learning_rate=1e-3, weight_decay=0.1, max_grad_norm=0.5, optimizer=optimizer)
    loaded = load(tiny_model)
    result = step_once(loaded, train, documents())
    assert result.applied
    assert result.clipped

    plain = load(tiny_model, "eager").causal.train()
    decayed = [p for p in plain.parameters() if p.ndim >= 2]
    rest = [p for p in plain.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
    own: torch.optim.Optimizer
    if optimizer == "adamw":
        own = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.999), foreach=False)
    else:
        own = torch.optim.SGD(groups, lr=1e-3, foreach=False)
    total = sum(sum(target) for _, target in documents())
    for ids, target in documents():
        ids_1T = torch.tensor([ids])
        labels_1T = torch.where(torch.tensor([target]), ids_1T, -100)
        (plain(input_ids=ids_1T, labels=labels_1T).loss * sum(target) / total).backward()
    norm = torch.nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
    own.step()
    assert result.grad_norm == pytest.approx(float(norm), rel=1e-4)
    theirs = dict(plain.named_parameters())
    for name, parameter in loaded.causal.named_parameters():
        torch.testing.assert_close(parameter, theirs[name], rtol=0, atol=2e-5, msg=name)


def test_a_loss_that_is_not_finite_leaves_the_weights_alone(tiny_model: Path) -> None:
    loaded = load(tiny_model)
    with torch.no_grad():
        loaded.causal.get_output_embeddings().weight[7] = float("nan")
    before = {n: p.detach().clone() for n, p in loaded.causal.named_parameters()}
    result = step_once(loaded, Train(), documents())
    assert not result.applied
    assert math.isnan(result.update_ratio)  # a weight is no number, so the run is broken
    assert result.loss_sum != result.loss_sum
    for name, parameter in loaded.causal.named_parameters():
        assert torch.equal(parameter.nan_to_num(0.5), before[name].nan_to_num(0.5)), name


def test_bf16_weights_follow_fp32_masters(tiny_model: Path) -> None:
    loaded = load_model(str(tiny_model), device="cpu", precision="bf16", attention="auto")
    train = Train(learning_rate=1e-5)
    optimization = Optimization(loaded.trainable(), train)
    assert optimization.uses_masters
    sample = WeightSample(optimization.parameters)
    moved = 0.0
    for step in range(1, 21):
        result = take_step(
            loaded,
            Scorer(flat=True, direct_head=True),
            optimization,
            sample,
            [lay_out(documents())],
            learning_rate=1e-5,
            max_grad_norm=1.0,
            seed=0,
            step=step,
        )
        moved += result.changed_fraction or 0.0
    for name, parameter in loaded.causal.named_parameters():
        assert torch.equal(parameter, optimization.masters[name].bfloat16()), name
    # At this learning rate a plain bf16 update of most weights is lost; the masters keep it.
    assert moved > 0
    again = Optimization(loaded.trainable(), train)
    again.load_state_tensors(optimization.state_tensors())
    assert again.state_tensors().keys() == optimization.state_tensors().keys()
    for name, tensor in optimization.state_tensors().items():
        assert torch.equal(again.state_tensors()[name], tensor), name


def test_a_fresh_adapter_changes_nothing_and_only_it_learns(tiny_model: Path) -> None:
    base = load(tiny_model)
    rows = [lay_out(documents())]
    scorer = Scorer(flat=True, direct_head=True)
    before = score_examples(base, scorer, rows)
    adapted = add_lora(base, Lora(rank=4, alpha=8), "tunebook/tiny", seed=0)
    assert score_examples(adapted, scorer, rows) == before
    frozen = {n: p.detach().clone() for n, p in adapted.network.named_parameters()}
    result = step_once(adapted, Train(learning_rate=1e-2), documents())
    assert result.applied
    for name, parameter in adapted.network.named_parameters():
        learnt = "lora_B" in name  # A's gradient is zero while B is
        assert torch.equal(parameter, frozen[name]) is not learnt or "lora_A" in name, name
    assert score_examples(adapted, scorer, rows) != before


def test_an_architecture_that_scales_its_logits_does_not_use_the_direct_head(
    tiny_model: Path,
) -> None:
    loaded = load(tiny_model)
    forward = loaded.causal.forward

    def doubled(*args, **kwargs):  # type: ignore[no-untyped-def]
        out = forward(*args, **kwargs)
        out.logits = out.logits * 2
        return out

    loaded.causal.forward = doubled
    assert choose_scorer(loaded, 250) == Scorer(flat=True, direct_head=False)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_saved_weights_give_the_trained_models_logits_elsewhere(
    tiny_model: Path, tmp_path: Path, method: str
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    loaded = load(tiny_model)
    if method == "lora":
        loaded = add_lora(loaded, Lora(rank=4, alpha=8), "base", seed=0)
    assert step_once(loaded, Train(learning_rate=1e-2), documents()).applied
    save_weights(loaded, tmp_path)
    if method == "full":
        other = AutoModelForCausalLM.from_pretrained(tmp_path)
    else:
        base = AutoModelForCausalLM.from_pretrained(tiny_model)
        other = PeftModel.from_pretrained(base, tmp_path)
    loaded.causal.set_attn_implementation("sdpa")
    loaded.network.eval()
    ids_BT = torch.tensor([[5, 9, 30, 12, 44, 7]])
    with torch.no_grad():
        trained = loaded.network(input_ids=ids_BT).logits
        torch.testing.assert_close(other.eval()(input_ids=ids_BT).logits, trained)


def test_scoring_makes_no_gradient_of_the_head() -> None:
    from tunebook.step.head import _ChunkedCrossEntropy, chunked_cross_entropy

    asked = []
    forward = _ChunkedCrossEntropy.forward

    def watched(ctx, *inputs):  # type: ignore[no-untyped-def]
        asked.append(tuple(ctx.needs_input_grad))
        return forward(ctx, *inputs)

    weight = torch.nn.Parameter(torch.randn(9, 4))
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(_ChunkedCrossEntropy, "forward", staticmethod(watched))
        chunked_cross_entropy(torch.randn(3, 4), weight, None, torch.tensor([1, 2, 3]))
    assert asked == [(False,) * 5]


@pytest.mark.parametrize("changes", [{}, {"freeze": ["layers:0"]}, {"add_tokens": ["<new>"]}])
def test_a_run_in_bf16_begins_with_all_digits_of_the_files(
    tiny_model: Path, tmp_path: Path, changes: dict[str, list[str]]
) -> None:
    recipe = Recipe.model_validate(
        {
            "name": "rounded",
            "model": str(tiny_model),
            "method": "full",
            "precision": "bf16",
            "device": "cpu",
            "data": [{"path": "rows.json"}],
            **changes,
        }
    )
    codec = load_tokenizer(str(tiny_model), recipe.add_tokens, tmp_path)
    loaded, _ = build_model(recipe, {}, codec, None, checkpointing=False)
    optimization = Optimization(loaded.trainable(), recipe.train, exact=loaded.exact)
    stored = load_file(tiny_model / "model.safetensors")
    assert set(loaded.exact) == set(optimization.masters)
    for name, master in optimization.masters.items():
        rows = len(stored[name])
        assert torch.equal(master[:rows], stored[name]), name
        parameter = loaded.trainable()[name]
        assert torch.equal(parameter, master.bfloat16()), name
        assert len(parameter) - rows == (bool(recipe.add_tokens) and "layers" not in name
                                         and "norm" not in name)  # fmt: skip
