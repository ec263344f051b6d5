"""Notebook 004: GPT-J 6B on talks, in parts. Its twin runs from nothing to an answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from recipe_files import planned, resolve
from tunebook.workflows.recipes import FULL, TWIN, answers_of, find_recipe, run_recipe

RECIPE = find_recipe("pygmalion")
FILES = sorted(path for side in (TWIN, FULL) for path in (RECIPE.folder / side).glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_file_of_the_pygmalion_recipe_is_valid(path: Path, book: Path) -> None:
    recipe = resolve(path, book)
    assert (recipe.method, recipe.train.schedule) == ("full", "constant")
    if path.parent.name == FULL:
        assert (recipe.precision, recipe.devices) == ("bf16", 4)
        assert (recipe.train.effective_batch_size, recipe.train.warmup_steps) == (256, 24)
        assert recipe.train.learning_rate == 0.98e-5


def test_gpt_j_is_sharded_over_four_cards_and_ten_releases_take_121_gigabytes() -> None:
    found = planned(RECIPE.folder / FULL / "pygmalion.yaml", "a6000", 4)
    total = found["parameters"]["total"]
    assert total == 6050882784
    assert round(found["disk"]["final_bytes"] / 1e9) == 121
    parts = found["memory"]["parts"]
    state = parts["weights"] + parts["optimizer"] + parts["gradients"]
    # 18 bytes a parameter over four, for gradients are added up in fp32; 16 would be 24 GB.
    assert state / 1e9 == pytest.approx(18 * total / 4 / 1e9, abs=0.1)
    assert found["memory"]["resident_bytes"] < found["memory"]["device_bytes"]
    assert {check["name"] for check in found["checks"]} <= {"disk-too-small", "weights-not-checked"}
    assert found["gradient_accumulation_steps"] * found["micro_batch_size"] * 4 == 256


@pytest.mark.slow
def test_the_pygmalion_twin_runs_from_nothing_and_answers(tmp_path: Path) -> None:
    book = tmp_path / "pygmalion"
    report = run_recipe("pygmalion", book).read_text(encoding="utf-8")
    answers = answers_of(book)
    hashes = {answers[f"part_{k}"]["examples_hash"] for k in (1, 2, 3)}
    assert len(hashes) == 1, "all parts are scored on the same held-out answers"
    assert answers["part_3"]["val_loss"] < answers["part_1"]["base_val_loss"]
    assert answers["part_2"]["parents"] == ["pygmalion-part-1"]
    assert "2,667 steps" in report
    assert "28.75 days" in report
    assert "121 GB" in report
    card = (book / "releases/pygmalion-part-1/README.md").read_text(encoding="utf-8")
    assert "part 1 of 3" in card
