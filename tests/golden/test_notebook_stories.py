"""What the notebooks' authors met on their cards comes out of a plan, before any step."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from test_golden_numbers import config_folder, config_of, count

from notebook_layouts import GALACTICA_125M, GIB, fully_sharded_bytes, training_bytes
from tunebook.cli.main import main
from tunebook.plan.batch_shapes import Sizes
from tunebook.plan.devices import parse_device
from tunebook.plan.memory import MemoryPlanner, Setting, fits
from tunebook.plan.rehearsal import Shape
from tunebook.plan.result import Memory
from tunebook.recipe.tree import Recipe

FULL_BF16_BYTES = {"weights": 2, "gradients": 4, "optimizer": 12}  # of each parameter


@pytest.fixture
def here(book: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(book)
    return book


def write_run(book: Path, model: str, **changes: Any) -> str:
    values = {"name": "run_1", "model": str(config_folder(model)), "data": [{"path": "rows.jsonl"}]}
    (book / "run_1.yaml").write_text(json.dumps(values | changes), encoding="utf-8")
    return "run_1.yaml"


def printed_plan(
    capsys: pytest.CaptureFixture[str], run_file: str, *more: str, code: int
) -> dict[str, Any]:
    assert main(["plan", run_file, "--json", *more]) == code
    return dict(json.loads(capsys.readouterr().out))


def rows_of(n: int, length: int) -> Shape:
    return Shape((length,) * n, (length,) * n)


def memory_of(
    model: str, shape: Shape, *, precision: str, device: str, devices: int = 1, scored: int = 1
) -> Memory:
    """Plan one micro-batch; what is sharded also adds it to the gradients of another."""
    recipe = Recipe.model_validate({"name": "r", "model": model, "data": [{"path": "rows"}]})
    setting = Setting(config_of(model), recipe, precision, parse_device(device, devices))
    sizes = Sizes(shape, shape, rows_of(scored, shape.lengths[0]))
    return MemoryPlanner(setting).plan(sizes, accumulates=devices > 1)


MEDIUM_WITH_LORA = {
    "method": "lora",
    "precision": "fp32",
    "attention": "eager",
    "max_seq_len": 512,
    "lora": {"rank": 16},
    "train": {"micro_batch_size": 8, "effective_batch_size": 8},
}


@pytest.mark.slow
def test_gpt2_medium_with_lora_and_8_rows_is_refused_on_a_t4_and_told_that_4_fit(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_file = write_run(here, "gpt2-medium", **MEDIUM_WITH_LORA)
    plan = printed_plan(capsys, run_file, "--device", "t4", code=3)
    refused = [check["name"] for check in plan["checks"] if check["level"] == "refuse"]
    assert refused == ["out-of-memory"]
    assert plan["memory"]["longest_batch"]["fitting_micro_batch_size"] == 4
    assert plan["parameters"]["trainable"] == 6291456


@pytest.mark.slow  # a rehearsal of many eager layers, once more
def test_gpt2_medium_with_lora_and_4_rows_is_accepted_on_a_t4(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_file = write_run(here, "gpt2-medium", **MEDIUM_WITH_LORA)
    fewer = ("train.micro_batch_size=4", "--device", "t4")
    plan = printed_plan(capsys, run_file, *fewer, code=0)
    assert plan["micro_batch_size"] == 4
    assert 10 < plan["memory"]["resident_bytes"] / GIB < 14.2


def test_pygmalion_sharded_over_4_cards_needs_18_bytes_of_each_parameter_and_14_at_rest() -> None:
    parameters = count(config_of("gpt-j-6b")).total
    memory = memory_of("gpt-j-6b", rows_of(1, 8), precision="bf16", device="a100-40", devices=4)
    for part, n_bytes in FULL_BF16_BYTES.items():
        # Beyond the formula: tables of positions, and one step number per tensor.
        assert memory.parts[part] == pytest.approx(n_bytes * parameters / 4, rel=1e-3)
    whole = sum(memory.parts[part] for part in FULL_BF16_BYTES)
    assert round(whole / 1e9, 1) == 27.2
    assert memory.generation_peak_bytes is not None
    assert round(14 * parameters / 4 / 1e9, 1) == 21.2
    # At rest, and the keys and values of one short answer.
    assert 14 * parameters / 4 < memory.generation_peak_bytes < 1.01 * 14 * parameters / 4
    # The notebook's kind of layout adds gradients up in bf16, which is 2 bytes less.
    assert round((whole - fully_sharded_bytes(parameters, 4)) / 1e9) == 3


def test_the_quotes_run_needs_less_than_in_the_notebook_and_its_evaluation_no_more() -> None:
    eight = memory_of("galactica-125m", rows_of(8, 1024), precision="fp32", device="a10g", scored=8)
    one = memory_of("galactica-125m", rows_of(1, 1024), precision="fp32", device="a10g", scored=8)
    assert eight.longest_batch_bytes / GIB == pytest.approx(7.2, abs=0.1)
    assert one.longest_batch_bytes / GIB == pytest.approx(2.4, abs=0.1)
    assert fits(eight)
    assert eight.longest_batch_bytes < 0.3 * training_bytes(GALACTICA_125M, 8, 1024)
    assert one.longest_batch_bytes < 0.5 * training_bytes(GALACTICA_125M, 1, 1024)
    # The notebook's evaluation of 8 rows was its peak; here logits are taken in pieces.
    assert one.evaluation_peak_bytes is not None
    assert one.evaluation_peak_bytes / GIB == pytest.approx(1.7, abs=0.1)


@pytest.mark.slow
def test_the_galactica_ladder_climbs_in_plan_with_only_the_model_changed(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The machine that tests run on need not have room for such checkpoints.
    one_row = {
        "precision": "bf16",
        "max_seq_len": 256,
        "train": {"micro_batch_size": 1},
        "accept": ["disk-too-small"],
    }
    peaks = []
    for size in ("125m", "1.3b", "6.7b"):
        run_file = write_run(here, f"galactica-{size}", **one_row)
        plan = printed_plan(capsys, run_file, "--device", "h200", code=0)
        peaks.append(plan["memory"]["longest_batch_bytes"] / plan["parameters"]["total"])
        assert plan["model"].endswith(size)
    # The larger the model, the nearer to what its parameters alone need.
    assert peaks == sorted(peaks, reverse=True)
    assert 18 < peaks[-1] < 20
    # Counted only: no card of the list holds these, and two more plans tell no more.
    largest = parse_device("b200").total_bytes
    assert largest is not None
    for size in ("30b", "120b"):
        assert 18 * count(config_of(f"galactica-{size}")).total > largest


@pytest.mark.slow
def test_a_plan_of_a_7b_model_takes_little_memory_and_time(here: Path) -> None:
    run_file = write_run(here, "llama-2-7b", method="lora", max_seq_len=2048)
    command = [sys.executable, "-m", "tunebook", "plan", run_file, "--device", "a100-40", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["parameters"]["total"] == 6738415616
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert used.ru_maxrss * 1024 < 1.5 * GIB
    assert used.ru_utime < 60
