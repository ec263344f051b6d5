"""A run file of axolotl, as one of tunebook.

Names and defaults are those of axolotl's own schema (axolotl/utils/schemas).
"""

from __future__ import annotations

from collections.abc import Mapping

from tunebook.imports.run_files.axolotl_data import NotOurs, read_data, sources_of
from tunebook.imports.run_files.foreign import Foreign, read_per_epoch
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
        *("wandb_project", "wandb_entity", "wandb_watch", "wandb_name", "wandb_log_model"),
        *("wandb_run_id", "wandb_mode", "mlflow_experiment_name", "mlflow_tracking_uri"),
        *("comet_project_name", "use_wandb", "use_mlflow", "use_comet", "use_tensorboard"),
        *(
            "logging_steps",
            "include_tokens_per_second",
            "eval_table_size",
            "debug",
            "profiler_steps",
        ),
        *("trackio_project_name", "use_trackio"),
    ),
    PLACES: (
        *("output_dir", "dataset_prepared_path", "hub_model_id", "hub_strategy", "run_name"),
        *(
            "push_dataset_to_hub",
            "last_run_prepared",
            "hf_use_auth_token",
            "auto_resume_from_checkpoints",
        ),
        *("hub_private_repo", "save_safetensors"),
    ),
    LOADING: (
        *("model_type", "tokenizer_type", "base_model_config", "is_llama_derived_model"),
        *("is_mistral_derived_model", "is_falcon_derived_model", "is_qwen_derived_model"),
        *("tokenizer_use_fast", "tokenizer_legacy", "strict", "lora_on_cpu", "low_cpu_mem_usage"),
        *("base_model_ignore_patterns", "resize_token_embeddings_to_32x", "shrink_embeddings"),
    ),
    FAST: (
        *("flash_attention", "flash_attn_cross_entropy", "flash_attn_rms_norm", "sdp_attention"),
        *("flash_attn_fuse_mlp", "flash_attn_fuse_qkv", "xformers_attention", "eager_attention"),
        *("s2_attention", "flex_attention", "tf32", "torch_compile", "torch_compile_backend"),
        *("dataset_processes", "dataset_num_proc", "dataloader_num_workers", "gc_steps"),
        *("dataloader_pin_memory", "dataloader_prefetch_factor", "eval_batch_size", "local_rank"),
        *("lora_mlp_kernel", "lora_qkv_kernel", "lora_o_kernel", "liger_rope", "liger_rms_norm"),
        *("liger_glu_activation", "liger_layer_norm", "liger_fused_linear_cross_entropy"),
        *("unsloth_lora_mlp", "unsloth_lora_qkv", "unsloth_lora_o", "gpu_memory_limit"),
        *("unsloth_cross_entropy_loss", "activation_offloading", "ddp_timeout", "device_map"),
        *("dataset_keep_in_memory", "max_memory", "attn_implementation", "relora_cpu_offload"),
        *("sample_packing_eff_est", "total_num_tokens", "skip_prepare_dataset", "ddp"),
        *("sample_packing_group_size", "sample_packing_bin_size", "use_ray", "merge_method"),
    ),
    "rows are laid end to end: there is no padding": (
        *("pad_to_sequence_len", "pad_to_sequence_length", "eval_sample_packing"),
        "group_by_length",
    ),
}
_PREFERENCES = ("rl", "reward_model", "process_reward_model", "dpo_beta", "kto_desirable_weight")
_PLUGINS = ("LigerPlugin", "CutCrossEntropyPlugin")


def read_axolotl(file: Foreign, devices: int) -> None:
    """Read every key of a run file of axolotl."""
    file.refuse("training on preferences is not what tunebook does", *_PREFERENCES)
    read_model(file, "base_model", "revision_of_model")
    _read_method(file)
    read_data(file)
    epochs = read_length(file, 1.0)
    read_batch(file, "micro_batch_size", 1, devices)
    read_optimizer(file, "optimizer", "adamw_torch_fused")
    read_schedule(file, "lr_scheduler", "cosine", warms_up=True)
    read_precision(file)
    read_checkpointing(file, False)
    _read_validation(file, epochs)
    _read_sequences(file)
    if (seed := file.get("seed")) is not None:
        file.put("seed", seed, "seed")
    else:
        file.put("seed", 42)
    read_saving(file)
    read_per_epoch(file, "saves_per_epoch", "checkpoint.every", epochs)
    _read_rest(file)


def _read_method(file: Foreign) -> None:
    adapter = file.get("adapter")
    relora = file.get("relora") is True or file.number("relora_steps") is not None
    if relora:
        method = "relora"
    elif adapter in (None, "lora", "qlora"):
        method = adapter or "full"
    else:
        file.refuse("of adapters there are lora and qlora", "adapter")
        return
    if relora and file.get("load_in_4bit") is True:
        file.refuse("relora adds its adapter to weights of 16 or 32 bits", "load_in_4bit")
    file.put("method", method, "adapter", "relora")
    if method == "full":
        file.leave("there is no adapter", "lora_r", "lora_alpha", "lora_dropout")
        file.leave("there is no adapter", "lora_target_linear", "lora_target_modules")
        file.leave("there is no adapter", "lora_fan_in_fan_out")
    else:
        read_adapter(file, method, 16, 0.0)
    steps = next((k for k in ("relora_steps", "jagged_restart_steps") if k in file), None)
    warmup = ("relora_warmup_steps", "jagged_restart_warmup_steps")
    if relora and steps is not None:
        file.put("relora.merge_every", file.number(steps), steps)
        for key in warmup:
            if key in file:
                file.put("relora.warmup_steps", file.number(key), key)
        if "relora_prune_ratio" in file:
            file.put(
                "relora.reset_optimizer", file.number("relora_prune_ratio"), "relora_prune_ratio"
            )
        if file.get("relora_prune_method", "magnitude") == "magnitude":
            file.leave("the smallest averages are set to 0", "relora_prune_method")
    file.refuse("start from the run instead: model: run:NAME", "lora_model_dir")
    why = "with method full, freeze names what does not learn"
    file.refuse(why, "unfrozen_parameters")


def _read_validation(file: Foreign, epochs: float) -> None:
    size = file.number("val_set_size", 0)
    if "test_datasets" in file:
        _read_tests(file)
        file.leave("test_datasets decide", "val_set_size")
    elif size < 1:
        file.put("validation.fraction", size, "val_set_size")
        if not size:
            file.notes.append(
                "nothing is held out, as there, so the run will have no held-out loss; better "
                "say validation: {fraction: 0.05}"
            )
    else:
        file.refuse(
            "is a number of rows; here a share of the documents is held out", "val_set_size"
        )
    if read_per_epoch(file, "evals_per_epoch", "evaluate.every", epochs):
        file.leave("evals_per_epoch decides", "eval_steps")
    elif (steps := file.number("eval_steps")) is not None:
        every = f"{100 * steps:g}%" if 0 < steps < 1 else steps
        file.put("evaluate.every", every, "eval_steps")
    elif file.get("eval_strategy", file.get("evaluation_strategy")) == "epoch":
        file.put("evaluate.every", "epoch", "eval_strategy", "evaluation_strategy")
    file.leave("as often as evaluate.every says", "eval_strategy", "evaluation_strategy")
    file.refuse("say stop_on: [overfitting] in the run file", "early_stopping_patience")
    file.refuse(
        "measure the run afterwards, as with tunebook judge",
        "do_bench_eval",
        "eval_causal_lm_metrics",
    )


def _read_tests(file: Foreign) -> None:
    sets = file.get("test_datasets")
    try:
        found = [source for one in sets for source in sources_of(one)[0]]
    except NotOurs as error:
        file.refuse(str(error), "test_datasets")
        return
    if len(found) != 1:
        file.refuse("of held-out sets of their own there is one", "test_datasets")
        return
    for name, value in found[0].items():
        file.put(f"validation.{name}", value, "test_datasets")


def _read_sequences(file: Foreign) -> None:
    file.put("max_seq_len", int(file.number("sequence_len", 512)), "sequence_len")
    file.put("packing", bool(file.get("sample_packing", False)), "sample_packing")
    keys = ("excess_length_strategy", "sequence_len_overflow_handling")
    stated = next((file.get(key) for key in keys if key in file), "drop")
    if file.ours.get("stage") == "cpt":
        file.leave("long texts are split", *keys)
    elif stated in ("drop", "truncate"):
        file.put("overlong", {"drop": "drop", "truncate": "cut"}[stated], *keys)
    else:
        file.refuse("of longer rows there is drop and truncate", *keys)


def _read_rest(file: Foreign) -> None:
    special = file.get("special_tokens")
    if isinstance(special, Mapping) and set(special) <= {"pad_token"}:
        file.leave("there is no padding", "special_tokens")
    elif isinstance(special, Mapping):
        other = next(key for key in special if key != "pad_token")
        file.refuse(
            f"{other} is that of the model here, and what is trained differs where it is another "
            "one; give the key up where it says what the model has, and a new token is add_tokens",
            "special_tokens",
        )
    if tokens := file.get("tokens", file.get("added_tokens")):
        file.put("add_tokens", tokens, "tokens", "added_tokens")
    if file.get("tokenizer_config") == file.get("base_model"):
        file.leave("that of the model", "tokenizer_config")
    plugins = file.get("plugins", [])
    if all(str(one).rpartition(".")[2] in _PLUGINS for one in plugins):
        file.leave(FAST, "plugins")
    why = "`devices` says how many; method full spreads weights and optimizer over them by itself"
    file.leave(why, "deepspeed", "fsdp", "fsdp_config", "fsdp_version")
    if file.get("shuffle_merged_datasets", True) is True:
        file.leave("the order is drawn anew in each epoch", "shuffle_merged_datasets")
    file.leave("its own cleaning is a filter: exact_duplicate", "dataset_exact_deduplication")
    if file.get("dataset_exact_deduplication") is True and "data" in file.ours:
        for source in file.ours["data"]:
            source["filters"] = ["exact_duplicate"]
    for why, keys in _IDLE.items():
        file.leave(why, *keys)
