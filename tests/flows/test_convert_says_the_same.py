"""What decides a run of axolotl or TRL decides the converted one too, or is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunebook.errors import RunFileError
from tunebook.recipe.load import load_run_file
from tunebook.recipe.tree import Recipe
from tunebook.workflows.convert import Conversion, convert

AXOLOTL = """\
base_model: openai-community/gpt2
datasets: [{path: rows.jsonl, type: alpaca}]
learning_rate: 1e-4
num_epochs: 2
"""
TRL = """\
model_name_or_path: openai-community/gpt2
dataset_name: trl-lib/Capybara
assistant_only_loss: true
"""


def made(tmp_path: Path, text: str, *without: str) -> tuple[Conversion, Recipe]:
    (tmp_path / "theirs.yml").write_text(text, encoding="utf-8")
    out = tmp_path / "run.yaml"
    done = convert(tmp_path / "theirs.yml", out=out, without=without)
    return done, load_run_file(out).recipe


@pytest.mark.parametrize(
    "text",
    [
        f"{AXOLOTL}lr_scheduler: constant\n",
        f"{AXOLOTL}lr_scheduler: constant\nwarmup_ratio: 0.1\n",
        f"{TRL}lr_scheduler_type: constant\nwarmup_steps: 50\n",
    ],
)
def test_a_constant_rate_has_no_warm_up_as_it_has_none_there(tmp_path: Path, text: str) -> None:
    done, recipe = made(tmp_path, text)
    assert recipe.train.schedule == "constant"
    assert not recipe.train.warmup_steps
    assert not recipe.train.warmup_fraction
    assert any("`constant` has no warm-up" in note for note in done.notes)


def test_a_constant_rate_with_warm_up_keeps_it(tmp_path: Path) -> None:
    _, recipe = made(tmp_path, f"{AXOLOTL}lr_scheduler: constant_with_warmup\nwarmup_steps: 7\n")
    assert (recipe.train.schedule, recipe.train.warmup_steps) == ("constant", 7)


def test_no_warm_up_steps_beside_a_share_are_read_as_each_tool_reads_them(tmp_path: Path) -> None:
    both = "warmup_steps: 0\nwarmup_ratio: 0.03\n"
    done, recipe = made(tmp_path, AXOLOTL + both)
    assert (recipe.train.warmup_steps, recipe.train.warmup_fraction) == (0, None)
    assert done.left_out["warmup_ratio"] == "warmup_steps decides"
    (tmp_path / "run.yaml").unlink()
    done, recipe = made(tmp_path, TRL + both)
    assert (recipe.train.warmup_steps, recipe.train.warmup_fraction) == (None, 0.03)
    assert done.left_out["warmup_steps"] == "warmup_ratio decides"
    (tmp_path / "run.yaml").unlink()
    _, recipe = made(tmp_path, f"{TRL}warmup_steps: 9\nwarmup_ratio: 0.03\n")
    assert (recipe.train.warmup_steps, recipe.train.warmup_fraction) == (9, None)


def test_another_end_token_is_refused_and_can_be_given_up(tmp_path: Path) -> None:
    text = AXOLOTL + 'special_tokens: {pad_token: "<pad>", eos_token: "<|im_end|>"}\n'
    with pytest.raises(RunFileError, match=r"`special_tokens: .*eos_token is that of the model"):
        made(tmp_path, text)
    done, _ = made(tmp_path, text, "special_tokens")
    assert "`special_tokens` was given up on request" in done.notes


def test_a_length_without_limit_is_refused_and_can_be_given_up(tmp_path: Path) -> None:
    with pytest.raises(RunFileError, match=r"`max_length`: is null.*max_length: 4096"):
        made(tmp_path, f"{TRL}max_length: null\n")
    done, recipe = made(tmp_path, f"{TRL}max_length: null\n", "max_length")
    assert (recipe.max_seq_len, recipe.overlong) == (1024, "cut")
    assert "`max_length` was given up on request" in done.notes


@pytest.mark.parametrize(("rate", "floor"), [("", 2e-6), ("learning_rate: 1e-3\n", 1e-4)])
def test_a_share_of_the_rate_counts_from_the_rate_that_is_used(
    tmp_path: Path, rate: str, floor: float
) -> None:
    least = "lr_scheduler_type: cosine_with_min_lr\nlr_scheduler_kwargs: {min_lr_rate: 0.1}\n"
    _, recipe = made(tmp_path, TRL + rate + least)
    assert recipe.train.min_lr == floor
    assert recipe.train.learning_rate == pytest.approx(10 * floor)


def test_a_share_of_a_rate_that_nobody_states_is_refused(tmp_path: Path) -> None:
    text = AXOLOTL.replace("learning_rate: 1e-4\n", "cosine_min_lr_ratio: 0.1\n")
    with pytest.raises(RunFileError, match="is a share of learning_rate, which is not stated"):
        made(tmp_path, text)


def test_never_in_an_epoch_is_at_the_end_alone(tmp_path: Path) -> None:
    done, recipe = made(tmp_path, f"{AXOLOTL}evals_per_epoch: 0\nsaves_per_epoch: 0\n")
    assert (recipe.evaluate.every, recipe.checkpoint.every) == ("100%", "100%")
    assert any("`evals_per_epoch: 0` is never" in note for note in done.notes)


@pytest.mark.parametrize("path", ["data/rows.jsonl", "data/*.jsonl", "data", "data/**/*.jsonl"])
def test_paths_count_from_where_the_run_file_will_lie(tmp_path: Path, path: str) -> None:
    theirs = tmp_path / "their [files]"
    (theirs / "data").mkdir(parents=True)
    (theirs / "data" / "rows.jsonl").write_text('{"instruction": "a", "output": "b"}\n')
    (theirs / "theirs.yml").write_text(AXOLOTL.replace("rows.jsonl", f'"{path}"'))
    out = tmp_path / "out" / "run.yaml"
    convert(theirs / "theirs.yml", out=out)
    from tunebook.data.sources import locate

    found = locate(load_run_file(out).recipe.data[0].path).files
    assert [file.path.resolve() for file in found] == [(theirs / "data" / "rows.jsonl").resolve()]


def test_a_data_set_of_the_hub_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "theirs.yml").write_text(AXOLOTL.replace("rows.jsonl", "tatsu-lab/alpaca"))
    convert(tmp_path / "theirs.yml", out=tmp_path / "out" / "run.yaml")
    recipe = load_run_file(tmp_path / "out" / "run.yaml").recipe
    assert recipe.data[0].path == "tatsu-lab/alpaca"
