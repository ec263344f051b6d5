"""Notebook 001: quotes under keywords. Its twin answers in numbers what three prompts could not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from notebook_layouts import GALACTICA_125M, evaluation_bytes, training_bytes
from recipe_files import planned, resolve
from tunebook.models.skeleton import build_skeleton, load_config
from tunebook.plan.counts import count_parameters
from tunebook.units import format_bytes
from tunebook.workflows.recipes import FULL, TWIN, answers_of, find_recipe, run_recipe

RECIPE = find_recipe("quotes")
FILES = sorted(path for side in (TWIN, FULL) for path in (RECIPE.folder / side).glob("*.yaml"))
BILLIONS = {"125m": 0.125, "1.3b": 1.3, "6.7b": 6.7, "30b": 30.0, "120b": 121.3}


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_file_of_the_quotes_recipe_is_valid(path: Path, book: Path) -> None:
    recipe = resolve(path, book)
    assert (recipe.method, recipe.seed) == ("full", 43)
    assert (recipe.train.epochs, recipe.train.effective_batch_size) == (3, 32)
    if path.parent.name == FULL:
        assert (recipe.train.micro_batch_size, recipe.train.learning_rate) == (1, 5e-6)
        assert recipe.evaluate.every == "5%"


@pytest.mark.parametrize("size", BILLIONS)
def test_the_ladder_climbs_with_only_name_and_model_changed(size: str, book: Path) -> None:
    first, path = (RECIPE.folder / FULL / f"galactica-{one}.yaml" for one in ("125m", size))
    recipe = resolve(path, book)
    # A hypothesis is not inherited: it belongs to the run that was made for it.
    own = {"name", "model", "extends", "notebook"}
    assert recipe.model_dump(exclude=own) == resolve(first, book).model_dump(exclude=own)
    assert (recipe.name, Path(recipe.model).name) == (f"galactica-{size}",) * 2
    causal = build_skeleton(load_config(recipe.model))
    total = count_parameters(causal, causal, quantized=False).total
    assert total / 1e9 == pytest.approx(BILLIONS[size], rel=0.02)


def test_the_notebooks_run_fits_its_card_and_evaluation_is_planned_apart() -> None:
    found = planned(RECIPE.folder / FULL / "galactica-125m.yaml", "a10")
    memory = found["memory"]
    assert found["parameters"]["total"] == 125_030_400
    assert (found["micro_batch_size"], found["gradient_accumulation_steps"]) == (1, 32)
    assert memory["longest_batch_bytes"] < 0.6 * training_bytes(GALACTICA_125M, 1, 1024)
    assert memory["evaluation_peak_bytes"] < evaluation_bytes(GALACTICA_125M, 8, 1024) / 4
    assert memory["resident_bytes"] < memory["device_bytes"]
    assert {check["name"] for check in found["checks"]} <= {"disk-too-small", "weights-not-checked"}


@pytest.mark.slow
def test_the_quotes_twin_runs_from_nothing_and_its_report_answers(tmp_path: Path) -> None:
    report = run_recipe("quotes", tmp_path / "quotes").read_text(encoding="utf-8")
    answers = answers_of(tmp_path / "quotes")
    assert answers["cleaned"]["dropped"] == {"exact duplicate": 42}
    assert answers["cleaned"]["changed"] == {"repair_special_tokens": 538}
    assert "**literal-special-token**: '<|endoftext|>' stands as plain text" in report
    assert "42 rows were dropped: exact duplicate. 496 are left." in report
    assert "trained in 100 % of the rows" in " ".join(report.split())
    assert "**lr_too_low**" in report
    assert "**evaluation-dominates**: evaluation (every step) takes" in report
    for prompt in ("hope", "virus", "phosphorylation"):
        assert re.search(rf"\| `{prompt}:` \| [\d.]+ % \| [\d.]+ % \|", report)
    assert "(different; difference" in report
    # What the notebook's program held, by the formulas of the golden tests.
    for rows in (8, 1):
        assert format_bytes(training_bytes(GALACTICA_125M, rows, 1024)) in report
    assert format_bytes(evaluation_bytes(GALACTICA_125M, 8, 1024)) in report
    refused = {one["name"] for one in answers["g30"]["checks"] if one["level"] == "refuse"}
    assert "out-of-memory" in refused
    assert "literal-special-token" in {
        one["name"] for one in answers["as_they_came"]["checks"] if one["level"] == "refuse"
    }
    assert "- **out-of-memory**: the longest batch needs" in report
