"""Trials of models with other tokenizers are compared by what tokens do not change."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from made_runs import make_run, make_validation
from tunebook.book.events import EventWriter
from tunebook.book.summary import summarize
from tunebook.book.sweeps import SweepTrial
from tunebook.recipe.sweep import Sweep
from tunebook.records import ExampleLoss
from tunebook.workflows.sweep_result import sum_up

DOCUMENTS = 20


def ladder(book: Path, by: str, *, n_bytes: tuple[int, int] = (2000, 2000)) -> tuple[Sweep, list]:
    """Two runs on the same text: the first in 400 tokens of 2.0 nats, the other in 800 of 1.2."""
    trials = []
    for place, (tokens, loss) in enumerate(((20, 2.0), (40, 1.2))):
        name = f"ladder-{place + 1:03d}"
        run = make_run(book, name, state=None)
        rows = tuple(
            ExampleLoss(f"doc{n}", tokens * (loss + 0.01 * (n % 5 - 2)), tokens)
            for n in range(DOCUMENTS)
        )
        last = replace(
            make_validation(10, loss),
            loss_sum=math.fsum(row.loss_sum for row in rows),
            target_tokens=tokens * DOCUMENTS,
            documents=DOCUMENTS,
            scored_bytes=n_bytes[place],
            per_document=rows,
        )
        with EventWriter(run, 1) as events:
            events.write("validation", last)
            events.write("state", {"state": "finished", "reason": "", "step": 10})
        trials.append(SweepTrial(name, place + 1, None, {"model": f"model-{place}"}, None))
    over = {"model": ["model-0", "model-1"]}
    return Sweep(name="ladder", run="base.yaml", over=over, by=by), trials


@pytest.mark.parametrize("by", ["val_loss", "perplexity", "best_val_loss"])
def test_losses_per_token_of_other_tokenizers_name_no_best(book: Path, by: str) -> None:
    sweep, trials = ladder(book, by)
    result = sum_up(sweep, "base.yaml", trials, book, {}, "all")
    assert result.best is None
    assert not any(point.verdict for point in result.points)
    assert "400 to 800 target tokens" in result.notes[0]
    assert "say by: bits_per_byte" in result.notes[0]


def test_bits_per_byte_order_models_of_other_tokenizers(book: Path) -> None:
    sweep, trials = ladder(book, "bits_per_byte")
    result = sum_up(sweep, "base.yaml", trials, book, {}, "all")
    # 400 tokens of 2.0 nats are fewer bits than 800 of 1.2, which is the lower loss per token.
    assert [point.runs[0] for point in result.points] == ["ladder-001", "ladder-002"]
    assert result.best == 1
    bits = [400 * 2.0 / math.log(2) / 2000, 800 * 1.2 / math.log(2) / 2000]
    assert [point.mean for point in result.points] == pytest.approx(bits)
    low, high = result.points[1].difference or (0.0, 0.0)
    assert low < bits[1] - bits[0] < high
    assert result.points[1].verdict == "different"
    assert summarize(trials[0].run(book)).bits_per_byte == pytest.approx(bits[0])


def test_results_on_other_texts_name_no_best(book: Path) -> None:
    sweep, trials = ladder(book, "bits_per_byte", n_bytes=(2000, 1500))
    result = sum_up(sweep, "base.yaml", trials, book, {}, "all")
    assert result.best is None
    assert "held-out documents are not the same" in result.notes[0]


def test_seeds_of_a_combination_are_no_runs_of_their_own_for_what_mattered(book: Path) -> None:
    trials = []
    for point in range(1, 5):
        for seed in range(3):
            name = f"rates-{point:03d}-s{seed}"
            make_run(book, name, loss=point + 0.01 * seed, learning_rate=point * 1e-4)
            settings = {"train.learning_rate": point * 1e-4}
            trials.append(SweepTrial(name, point, seed, settings, None))
    over = {"train.learning_rate": [1e-4, 2e-4, 3e-4, 4e-4]}
    sweep = Sweep(name="rates", run="base.yaml", over=over, seeds=3)
    result = sum_up(sweep, "base.yaml", trials, book, {}, "all")
    assert result.best == 1
    assert result.importance["train.learning_rate"] == "cannot tell: 4 runs, and it takes 8"
