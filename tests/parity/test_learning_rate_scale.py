"""A source's learning-rate scale: its gradient counts so often, and no loss is told otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_loss_parity import LENGTHS, documents, lay_out, load

from tunebook.recipe.load import recipe_from_mapping
from tunebook.recipe.tree import Train
from tunebook.step.forward import Scorer
from tunebook.step.movement import WeightSample
from tunebook.step.optimization import Optimization
from tunebook.step.update import StepResult, take_step

SCALES = (1.0, 0.25, 3.0, 1.0, 3.0, 0.25, 1.0, 3.0)
DIRECT = Scorer(flat=True, direct_head=True)


def step(
    folder: Path, sizes: Sequence[int], scorer: Scorer, scales: tuple[float, ...] = SCALES
) -> tuple[dict[str, torch.Tensor], StepResult]:
    """Take one step of plain SGD at rate 1 without clipping: the change is minus the gradient."""
    loaded = load(folder, "auto" if scorer.flat else "sdpa")
    rows, batches, start = documents(), [], 0
    for size in sizes:
        one = lay_out(rows[start : start + size])
        batches.append(replace(one, scales=scales[start : start + size]))
        start += size
    before = {n: p.detach().clone() for n, p in loaded.causal.named_parameters()}
    optimization = Optimization(loaded.trainable(), Train(optimizer="sgd", learning_rate=1.0))
    sample = WeightSample(optimization.masters)
    result = take_step(
        loaded,
        scorer,
        optimization,
        sample,
        batches,
        learning_rate=1.0,
        max_grad_norm=0.0,
        seed=0,
        step=1,
    )
    return {n: before[n] - p.detach() for n, p in loaded.causal.named_parameters()}, result


@pytest.mark.parametrize(
    ("sizes", "scorer"),
    [
        ([8], DIRECT),
        ([2] * 4, DIRECT),
        ([3, 5], Scorer(flat=True, direct_head=False)),
        ([8], Scorer(flat=False, direct_head=True)),
    ],
)
def test_scaled_gradients_are_transformers_own_times_the_scale(
    tiny_model: Path, sizes: list[int], scorer: Scorer
) -> None:
    plain = load(tiny_model, "eager").causal
    targets = [sum(target) for _, target in documents()]
    for (ids, target), n, scale in zip(documents(), targets, SCALES, strict=True):
        ids_1T = torch.tensor([ids])
        labels_1T = torch.where(torch.tensor([target]), ids_1T, -100)
        # Each loss is a mean; the step divides by the target tokens of all rows, not scaled.
        loss = plain(input_ids=ids_1T, labels=labels_1T).loss
        (scale * loss * n / sum(targets)).backward()
    ours, _ = step(tiny_model, sizes, scorer)
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(ours[name], parameter.grad, rtol=1e-4, atol=1e-6, msg=name)


def test_what_a_step_reports_is_not_scaled(tiny_gpt2: Path) -> None:
    scaled_change, scaled = step(tiny_gpt2, [4, 4], DIRECT)
    plain_change, plain = step(tiny_gpt2, [4, 4], DIRECT, ())
    assert scaled.loss_sum == plain.loss_sum
    assert scaled.examples == plain.examples
    assert scaled.target_tokens == plain.target_tokens
    assert scaled.grad_norm > 1.1 * plain.grad_norm
    name = "transformer.wpe.weight"
    longest = max(LENGTHS)
    assert not torch.allclose(scaled_change[name][:longest], plain_change[name][:longest])


def test_a_scale_that_all_sources_share_is_refused() -> None:
    values = {"name": "x", "model": "m"}
    one = {"path": "a.json", "learning_rate_scale": 0.5}
    with pytest.raises(Exception, match=r"0\.5 for every source.*train\.learning_rate"):
        recipe_from_mapping({**values, "data": [one, one]}, "run", Path())
    recipe_from_mapping({**values, "data": [one, {"path": "b.json"}]}, "run", Path())
