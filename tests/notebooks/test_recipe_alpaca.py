"""Notebook 002: sixteen runs on instructions. Its twin tells which differences are there."""

from __future__ import annotations

from pathlib import Path

import pytest

from recipe_files import planned, resolve
from tunebook.models.skeleton import add_lora_to_skeleton, build_skeleton, load_config
from tunebook.plan.counts import count_parameters
from tunebook.workflows.recipes import FULL, TWIN, answers_of, find_recipe, run_recipe

RECIPE = find_recipe("alpaca")
FILES = sorted(path for side in (TWIN, FULL) for path in (RECIPE.folder / side).glob("*.yaml"))
RUNS = [f"run_{n}" for n in (*range(1, 7), *range(10, 20))]
# Parameters with the head apart, as the notebook counts, and what learns with peft's all-linear.
MEDIUM, LARGE, XL = (406286336, 354823168), (838359040, 774030080), (1638022400, 1557611200)
SIZES = {"run_2": LARGE, "run_3": XL, "run_4": LARGE, "run_6": LARGE, "run_11": LARGE}


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_file_of_the_alpaca_recipe_is_valid_and_short(path: Path, book: Path) -> None:
    recipe = resolve(path, book)
    assert recipe.train.weight_decay == 0.1
    lines = path.read_text(encoding="utf-8").splitlines()
    if "extends" in lines[0]:
        assert len(lines) <= 5


@pytest.mark.parametrize("name", RUNS)
def test_every_run_of_the_notebook_has_its_parameters(name: str, book: Path) -> None:
    recipe = resolve(RECIPE.folder / FULL / f"{name}.yaml", book)
    causal = build_skeleton(load_config(recipe.model))
    network = causal if recipe.method == "full" else add_lora_to_skeleton(causal, recipe.lora)
    found = count_parameters(network, causal, quantized=False)
    assert (found.total_untied, found.total) == SIZES.get(name, MEDIUM)
    if recipe.method == "lora" and name != "run_11":
        assert found.trainable == 6291456 * recipe.lora.rank // 16


def test_settings_of_the_notebooks_table_come_out_of_the_chains(book: Path) -> None:
    def settings(name: str) -> tuple[object, ...]:
        one = resolve(RECIPE.folder / FULL / f"{name}.yaml", book)
        lora = (one.lora.rank, one.lora.alpha) if one.method == "lora" else None
        t = one.train
        return t.effective_batch_size, t.epochs, t.learning_rate, t.warmup_fraction, lora

    assert settings("run_1") == (2, 1, 5e-5, None, None)
    assert settings("run_5") == (2, 1, 5e-5, 0.2, None)
    assert settings("run_10") == (2, 1, 5e-5, 0.2, (16, 16))
    assert settings("run_13") == (2, 1, 5e-5, 0.2, (16, 32))
    assert settings("run_14") == (2, 1, 5e-5, 0.2, (32, 32))
    assert settings("run_15") == (4, 1, 5e-5, 0.2, (64, 64))
    assert settings("run_16") == (4, 1, 2.5e-5, 0.3, (64, 64))
    assert settings("run_17") == (4, 1, 3e-5, 0, (64, 64))
    assert settings("run_18") == (4, 1, 1e-4, 0, (64, 64))
    assert settings("run_19") == (4, 2, 5e-5, 0.2, (16, 16))


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_every_run_of_the_notebook_fits_the_card_it_ran_on(name: str) -> None:
    number = int(name.removeprefix("run_"))
    found = planned(RECIPE.folder / FULL / f"{name}.yaml", "a100-40" if number < 10 else "t4")
    memory = found["memory"]
    assert memory["resident_bytes"] < memory["device_bytes"]
    assert {check["name"] for check in found["checks"]} <= {"disk-too-small", "weights-not-checked"}


@pytest.mark.slow
def test_the_alpaca_twin_runs_from_nothing_and_its_report_answers(tmp_path: Path) -> None:
    report = run_recipe("alpaca", tmp_path / "alpaca").read_text(encoding="utf-8")
    answers = answers_of(tmp_path / "alpaca")
    assert "**overfitting**, from step" in report
    assert {one["kind"] for one in answers["verdicts_15"]} & {"peak_lr", "lr_too_high"}
    assert "confounded" in {one["kind"] for one in answers["schedule_and_clipping"]["verdicts"]}
    assert {one["kind"] for one in answers["verdicts_18"]} & {"divergence", "lr_too_high"}
    assert list(answers["clipping"]["changed"]) == ["train.max_grad_norm"]
    assert "28.650 against 25.270: **cannot tell**" in report
    assert "about 2,199 questions each would be needed" in report
    assert "14.800 against 21.140: **cannot tell**" in report
    assert "about 625 questions each would be needed" in report
    assert "assumed: 100 questions, SD 40 per question, unpaired" in report
    for mib in ("1549.86 MiB", "3198.09 MiB", "6248.56 MiB"):
        assert mib in report
    assert "- **out-of-memory**: the longest batch needs" in report
    for name in ("run_1", "run_4", "run_15", "run_18", "sgd", "last-layers", "frozen"):
        assert f"| {name} " in answers["table"]
    assert "| notebook-run_19 " in answers["notebook_table"]
