"""A configuration file of `trl sft`, as a run file of tunebook.

Names and defaults are those of TRL's ScriptArguments, ModelConfig and SFTConfig (1.16).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunebook.imports.run_files.foreign import Foreign
from tunebook.imports.run_files.shared import (
    FAST,
    LOADING,
    PLACES,
    TRACKERS,
    read_adapter,
    read_batch,
    read_checkpointing,
    read_length,
    read_model,
    read_optimizer,
    read_precision,
    read_saving,
    read_schedule,
)

_IDLE = {
    TRACKERS: (
        *("report_to", "logging_steps", "logging_strategy", "logging_first_step", "log_level"),
        *("run_name", "project", "trackio_space_id", "disable_tqdm", "log_level_replica"),
        *("logging_nan_inf_filter", "include_num_input_tokens_seen", "log_on_each_node"),
        *("skip_memory_metrics", "debug"),
    ),
    PLACES: (
        *("output_dir", "push_to_hub", "hub_model_id", "hub_strategy", "hub_private_repo"),
        *("overwrite_output_dir", "save_safetensors", "hub_always_push", "hub_revision"),
    ),
    LOADING: ("dtype", "torch_dtype", "ignore_bias_buffers"),
    FAST: (
        *("attn_implementation", "tf32", "torch_compile", "torch_compile_backend"),
        *("torch_compile_mode", "use_liger_kernel", "liger_kernel_config", "use_cache"),
        *("dataloader_num_workers", "dataloader_pin_memory", "dataset_num_proc", "padding_free"),
        *("dataloader_prefetch_factor", "dataloader_persistent_workers", "activation_offloading"),
        *("per_device_eval_batch_size", "eval_accumulation_steps", "torch_empty_cache_steps"),
        *("ddp_find_unused_parameters", "ddp_bucket_cap_mb", "ddp_timeout", "ddp_backend"),
        *("pad_to_multiple_of", "pad_token", "packing_strategy", "eval_packing", "do_train"),
        *("do_eval", "loss_type", "bf16_full_eval", "prediction_loss_only", "length_column_name"),
        *("remove_unused_columns", "dataset_streaming", "shuffle_dataset", "local_rank"),
        *("bnb_4bit_quant_storage", "average_tokens_across_devices", "group_by_length"),
        *("train_sampling_strategy", "full_determinism"),
    ),
    "method full spreads weights and optimizer over devices by itself": (
        *("fsdp", "fsdp_config", "deepspeed", "accelerator_config"),
    ),
}


def read_trl(file: Foreign, devices: int) -> None:
    """Read every key of a configuration of `trl sft`."""
    read_model(file, "model_name_or_path", "model_revision")
    _read_method(file)
    _read_data(file)
    read_length(file, 3.0)
    read_batch(file, "per_device_train_batch_size", 8, devices)
    read_optimizer(file, "optim", "adamw_torch_fused")
    read_schedule(file, "lr_scheduler_type", "linear", warms_up=False, rate=2e-5)
    read_precision(file)
    if "bf16" not in file and file.get("fp16") is not True:
        file.put("precision", "bf16")
    read_checkpointing(file, True)
    _read_evaluation(file)
    _read_sequences(file)
    file.put("seed", file.get("seed", 42), "seed")
    if file.get("data_seed", file.get("seed", 42)) == file.get("seed", 42):
        file.leave("the seed decides the order too", "data_seed")
    if "save_steps" not in file and file.get("save_strategy", "steps") == "steps":
        file.put("checkpoint.every", 500)
    read_saving(file)
    for why, keys in _IDLE.items():
        file.leave(why, *keys)


def _read_sequences(file: Foreign) -> None:
    if "max_length" in file.blank:  # no default there: it says that no row is cut
        file.refused["max_length"] = (
            "is null, so no row is cut there, and here max_seq_len is the longest row; state it "
            "there, as in max_length: 4096"
        )
    length = file.get("max_length", file.get("max_seq_length", 1024))
    file.put("max_seq_len", int(length), "max_length", "max_seq_length")
    if file.ours.get("stage") != "cpt":
        file.put("overlong", "cut")
    if file.get("truncation_mode", "keep_start") == "keep_start":
        file.leave("a long row loses its end", "truncation_mode")
    file.put("packing", bool(file.get("packing", False)), "packing")


def _read_method(file: Foreign) -> None:
    adapted, four = file.get("use_peft") is True, file.get("load_in_4bit") is True
    if not adapted:
        file.put("method", "full", "use_peft")
        idle = (
            *("lora_r", "lora_alpha", "lora_dropout", "lora_target_modules", "use_rslora"),
            *("use_dora", "lora_modules_to_save", "lora_task_type"),
        )
        file.leave("use_peft is off", *idle)
        return
    method = "qlora" if four else "lora"
    file.put("method", method, "use_peft", "load_in_4bit")
    read_adapter(file, method, 32, 0.05)
    if file.get("bnb_4bit_quant_type", "nf4") == "nf4":
        file.leave("the 4 bits are nf4", "bnb_4bit_quant_type")
    if four:
        double = bool(file.get("use_bnb_nested_quant", False))
        file.put("quantization.double", double, "use_bnb_nested_quant")


def _read_data(file: Foreign) -> None:
    mixture = file.get("datasets")
    sets: list[Any] = mixture if isinstance(mixture, list) else []
    if "dataset_name" in file:
        one = {"path": file.get("dataset_name"), "split": file.get("dataset_train_split", "train")}
        sets = [{**one, "name": file.get("dataset_config")}]
    sources: list[dict[str, Any]] = []
    for number, one in enumerate(sets):
        if not isinstance(one, Mapping) or not isinstance(one.get("path"), str):
            file.refuse(f"entry {number} names no path", "datasets")
            return
        stated = {key: value for key, value in one.items() if value not in (None, "", [])}
        split, files = stated.pop("split", "train"), stated.pop("data_files", None)
        path = stated.pop("path")
        if stated or "[" in split:
            key = next(iter(stated), "split")
            file.refuse(f"{key} has nothing that does it here", "datasets")
            file.refuse("has nothing that does it here", "dataset_config")
            return
        paths = [files] if isinstance(files, str) else files or [path]
        tail = "" if split == "train" or files else f":{split}"
        sources += [{"path": f"{each}{tail}"} for each in paths]
    if not sources:
        return
    column = file.get("dataset_text_field")
    if column is not None:
        file.put("stage", "cpt", "dataset_text_field")
        for source in sources:
            source["format"] = "text"
            if column != "text":
                source["columns"] = {"text": column}
    file.put("data", sources, "datasets", "dataset_name", "dataset_train_split")
    if column is None:
        _read_targets(file)


def _read_targets(file: Foreign) -> None:
    keys = ("assistant_only_loss", "completion_only_loss")
    if any(file.get(key) is True for key in keys):
        file.put("train_on", "response", *keys)
    elif file.get("completion_only_loss") is False:
        file.put("train_on", "all", *keys)
    else:
        file.put("train_on", "all", "assistant_only_loss")
        file.notes.append(
            "every token of a conversation is trained there, and of prompt and completion the "
            "completion only; train_on: all is the first of these, train_on: response the other"
        )


def _read_evaluation(file: Foreign) -> None:
    strategy = file.get("eval_strategy", file.get("evaluation_strategy", "no"))
    if strategy == "no":
        file.put("validation.fraction", 0.0, "eval_strategy", "evaluation_strategy")
        file.leave("nothing is held out", "dataset_test_split", "eval_steps")
        file.notes.append(
            "nothing is held out, as there, so the run will have no held-out loss; better say "
            "validation: {fraction: 0.05}"
        )
        return
    split = file.get("dataset_test_split", "test")
    if "dataset_name" in file:
        path = f"{file.get('dataset_name')}:{split}"
        file.put("validation.path", path, "dataset_test_split", "eval_strategy")
    steps = file.number("eval_steps", file.number("logging_steps", 10))
    every = "epoch" if strategy == "epoch" else f"{100 * steps:g}%" if 0 < steps < 1 else steps
    file.put("evaluate.every", every, "eval_steps", "eval_strategy", "evaluation_strategy")
