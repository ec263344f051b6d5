"""Run files of axolotl and TRL become run files that plan and train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from test_train_flow import tunebook

from tunebook.errors import RunFileError, UsageError
from tunebook.recipe.load import load_run_file
from tunebook.workflows.convert import convert

AXOLOTL = """\
base_model: mistralai/Mistral-7B-v0.1
model_type: MistralForCausalLM
tokenizer_type: LlamaTokenizer
load_in_8bit: false
load_in_4bit: true
strict: false
datasets:
  - path: mhenrichsen/alpaca_2k_test
    type: alpaca
  - path: json
    data_files: [more.jsonl, yet-more.jsonl]
    type: {field_instruction: question, field_output: answer}
dataset_prepared_path: last_run_prepared
val_set_size: 0.1
output_dir: ./outputs/qlora-out
adapter: qlora
lora_model_dir:
sequence_len: 8192
sample_packing: true
pad_to_sequence_len: true
lora_r: 32
lora_alpha: 16
lora_dropout: 0.05
lora_target_linear: true
wandb_project: cosmosage
gradient_accumulation_steps: 4
micro_batch_size: 2
num_epochs: 2
optimizer: adamw_bnb_8bit
lr_scheduler: cosine
learning_rate: 2e-4
train_on_inputs: false
bf16: auto
fp16:
tf32: false
gradient_checkpointing: true
flash_attention: true
warmup_steps: 10
evals_per_epoch: 4
saves_per_epoch: 1
weight_decay: 0.0
special_tokens:
"""

TRL = """\
model_name_or_path: openai-community/gpt2-medium
dataset_name: trl-lib/Capybara
use_peft: true
lora_target_modules: all-linear
assistant_only_loss: true
learning_rate: 1.0e-4
per_device_train_batch_size: 4
gradient_accumulation_steps: 2
num_train_epochs: 1
eval_strategy: steps
eval_steps: 100
output_dir: out
report_to: wandb
"""


def written(tmp_path: Path, text: str, name: str = "their run.yml") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def values_of(text: str) -> dict[str, Any]:
    found: dict[str, Any] = YAML(typ="safe", pure=True).load(text)
    return found


def test_a_qlora_run_of_axolotl_says_the_same_in_our_words(tmp_path: Path) -> None:
    made = convert(written(tmp_path, AXOLOTL), out=tmp_path / "run.yaml", devices=2)
    recipe = load_run_file(tmp_path / "run.yaml").recipe
    assert recipe.name == "their-run"
    assert recipe.model == "mistralai/Mistral-7B-v0.1"
    assert (recipe.method, recipe.stage, recipe.devices) == ("qlora", "sft", 2)
    assert (recipe.lora.rank, recipe.lora.alpha, recipe.lora.dropout) == (32, 16, 0.05)
    assert recipe.lora.target_modules == "all-linear"
    train = recipe.train
    assert (train.micro_batch_size, train.effective_batch_size) == (2, 16)
    assert (train.learning_rate, train.schedule, train.warmup_steps) == (2e-4, "cosine", 10)
    assert (train.optimizer, train.epochs, train.weight_decay) == ("adamw_8bit", 2, 0.0)
    assert (recipe.max_seq_len, recipe.packing, recipe.train_on) == (8192, True, "response")
    assert recipe.validation.fraction == 0.1
    assert recipe.evaluate.every == "12.5%"
    assert recipe.checkpoint.every == "50%"
    assert recipe.seed == 42
    paths = [source.path for source in recipe.data]
    assert paths[0] == "mhenrichsen/alpaca_2k_test"
    assert [Path(path).name for path in paths[1:]] == ["more.jsonl", "yet-more.jsonl"]
    assert recipe.data[2].columns == {"instruction": "question", "output": "answer"}
    assert made.understood["micro_batch_size"].startswith("train.micro_batch_size: 2")
    assert "no padding" in made.left_out["pad_to_sequence_len"]
    # Everything that is stated is accounted for.
    stated = {key for key, value in values_of(AXOLOTL).items() if value is not None}
    assert set(made.understood) | set(made.left_out) == stated


def test_a_run_of_trl_says_the_same_with_defaults_of_trl(tmp_path: Path) -> None:
    made = convert(written(tmp_path, TRL), out=tmp_path / "run.yaml")
    recipe = load_run_file(tmp_path / "run.yaml").recipe
    assert (recipe.lora.rank, recipe.lora.alpha, recipe.lora.dropout) == (16, 32, 0.05)
    assert (recipe.train.schedule, recipe.train.optimizer) == ("linear", "adamw")
    assert (recipe.train.effective_batch_size, recipe.train.gradient_checkpointing) == (8, True)
    assert (recipe.overlong, recipe.max_seq_len, recipe.precision) == ("cut", 1024, "bf16")
    assert recipe.validation.path == "trl-lib/Capybara:test"
    assert (recipe.evaluate.every, recipe.checkpoint.every) == (100, 500)
    assert recipe.train_on == "response"
    assert set(made.understood) | set(made.left_out) == set(values_of(TRL))


def test_defaults_of_trl_are_those_of_the_installed_one() -> None:
    trl = pytest.importorskip("trl", reason="trl is not installed")
    defaults = {
        name: field.default
        for kind in (trl.SFTConfig, trl.ModelConfig)
        for name, field in kind.__dataclass_fields__.items()
    }
    ours = {
        "num_train_epochs": 3.0,
        "per_device_train_batch_size": 8,
        "learning_rate": 2e-5,
        "lr_scheduler_type": "linear",
        "max_length": 1024,
        "gradient_checkpointing": True,
        "lora_r": 16,
        "lora_alpha": 32,
        "lora_dropout": 0.05,
        "seed": 42,
        "save_steps": 500,
        "eval_strategy": "no",
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "packing": False,
        "use_bnb_nested_quant": False,
    }
    assert {name: defaults[name] for name in ours} == ours


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("rl: dpo", "`rl: 'dpo'`: training on preferences"),
        ("optimizer: lion", "`optimizer: 'lion'`: of optimizers"),
        ("load_in_8bit: true", "`load_in_8bit: true`: a frozen base"),
        ("trust_remote_code: true", "is never run"),
        ("lr_scheduler: rex", "of schedules"),
        ("neftune_noise_alpha: 5", "tunebook has nothing that does this"),
        ("val_set_size: 200", "is a number of rows"),
        ("early_stopping_patience: 3", "stop_on: [overfitting]"),
        ("datasets: [{path: a, type: oasst}]", "entry 0: type oasst is none of"),
        (
            "datasets: [{path: a, type: alpaca}, {path: b, type: completion}]",
            "need several (alpaca, plain text)",
        ),
        ("datasets: [{path: a, type: alpaca, shards: 4}]", "shards: 4: tunebook has nothing"),
        ("learning_rate: fast", "'fast' is no number"),
    ],
)
def test_what_cannot_be_translated_is_refused_with_its_line(
    tmp_path: Path, line: str, said: str
) -> None:
    key = line.partition(":")[0]
    values = values_of(AXOLOTL) | values_of(line)
    path = tmp_path / "axolotl.yml"
    with path.open("w", encoding="utf-8") as file:
        YAML(typ="safe", pure=True).dump(values, file)
    out = tmp_path / "run.yaml"
    with pytest.raises(RunFileError) as refused:
        convert(path, out=out)
    assert said in str(refused.value)
    assert "1 key cannot be translated" in str(refused.value)
    number = int(str(refused.value).partition("; line ")[2].partition(":")[0])
    assert path.read_text(encoding="utf-8").splitlines()[number - 1].startswith(f"{key}:")
    assert not out.exists()
    if key not in ("datasets", "val_set_size", "learning_rate"):
        assert convert(path, without=[key]).text


def test_a_file_of_neither_tool_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFileError, match="no run file of axolotl or TRL"):
        convert(written(tmp_path, "model: x\n"))
    with pytest.raises(RunFileError, match="LLaMA-Factory"):
        convert(written(tmp_path, "stage: sft\nfinetuning_type: lora\n"))
    with pytest.raises(UsageError, match="--without nope"):
        convert(written(tmp_path, AXOLOTL), without=["nope"])
    (tmp_path / "there.yaml").touch()
    with pytest.raises(UsageError, match="is there already"):
        convert(written(tmp_path, AXOLOTL), out=tmp_path / "there.yaml")


def test_a_converted_run_file_plans_at_a_terminal(
    book: Path, tiny_model: Path, tmp_path: Path
) -> None:
    rows = '{"instruction": "Name a colour.", "input": "", "output": "blue %d"}'
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "rows.jsonl").write_text("\n".join(rows % i for i in range(40)), encoding="utf-8")
    text = (
        f"base_model: {tiny_model}\ndatasets:\n  - {{path: rows.jsonl, type: alpaca}}\n"
        "sequence_len: 128\nlearning_rate: 0.001\nmicro_batch_size: 4\nval_set_size: 0.2\n"
    )
    path = written(theirs, text, "axolotl.yml")
    done = tunebook(book, "convert", str(path), "-o", "converted.yaml", "--name", "theirs")
    assert done.returncode == 0, done.stderr
    assert "understood: sequence_len -> max_seq_len: 128" in done.stderr
    assert done.stdout == ""
    planned = tunebook(book, "plan", "converted.yaml", "--no-probe")
    assert planned.returncode == 0, planned.stderr
    wrong = tunebook(book, "convert", str(path), "--without", "nope")
    assert wrong.returncode == 2
    assert len(wrong.stderr.splitlines()) == 1
