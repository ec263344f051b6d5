"""What run files of several tools say in the same words: those of transformers' Trainer.

Each function reads one matter: optimizer, schedule, adapter, precision. Defaults are arguments,
because the tools differ in them.
"""

from __future__ import annotations

from typing import Any

from tunebook.imports.run_files.foreign import Foreign

_OPTIMIZERS = {
    **dict.fromkeys(
        ("adamw_torch", "adamw_torch_fused", "adamw_hf", "adamw_apex_fused", "adamw"), "adamw"
    ),
    **dict.fromkeys(("adamw_bnb_8bit", "adamw_8bit", "paged_adamw_8bit"), "adamw_8bit"),
    **dict.fromkeys(("paged_adamw", "paged_adamw_32bit"), "adamw"),
    "sgd": "sgd",
}
_SCHEDULES = {
    "cosine": "cosine",
    "linear": "linear",
    "constant": "constant",
    "constant_with_warmup": "constant",
    "cosine_with_min_lr": "cosine",
}

TRACKERS = "runs are kept in the book; `report_to: [wandb]` tells W&B of them too"
FAST = "the step is tunebook's own"
PLACES = "the run's folder is in the book; `tunebook release --push` is for the hub"
LOADING = "taken from the model itself"


def read_optimizer(file: Foreign, key: str, default: str) -> None:
    """Read which optimizer, its averaging factors, decay and clipping."""
    name = str(file.get(key, default))
    if name not in _OPTIMIZERS:
        file.refuse("of optimizers there are adamw, adamw_8bit and sgd", key)
    else:
        file.put("train.optimizer", _OPTIMIZERS[name], key)
        if name.startswith("paged"):
            file.notes.append(f"`{name}` pages its state to the host; tunebook keeps it")
    file.put("train.weight_decay", file.number("weight_decay", 0.0), "weight_decay")
    file.put("train.max_grad_norm", file.number("max_grad_norm", 1.0), "max_grad_norm")
    betas = [file.number("adam_beta1", 0.9), file.number("adam_beta2", 0.999)]
    if betas != [0.9, 0.999] or "adam_beta1" in file or "adam_beta2" in file:
        file.put("train.betas", betas, "adam_beta1", "adam_beta2")
    if file.number("adam_epsilon", 1e-8) == 1e-8:
        file.leave("the same here", "adam_epsilon")
    else:
        file.refuse("AdamW's epsilon is 1e-8 here", "adam_epsilon")


def read_schedule(
    file: Foreign, key: str, default: str, *, warms_up: bool, rate: float | None = None
) -> None:
    """Read the learning rate over the run, where `rate` is that of a file that states none.

    `warms_up` is whether there is a warm-up unstated.
    """
    rate = file.number("learning_rate", rate)
    if rate is not None:
        file.put("train.learning_rate", rate, "learning_rate")
    name = str(file.get(key, default))
    if name not in _SCHEDULES:
        file.refuse("of schedules there are constant, linear and cosine, each with a warm-up", key)
    else:
        file.put("train.schedule", _SCHEDULES[name], key)
    if (share := file.number("cosine_min_lr_ratio")) is not None:
        _read_floor(file, "cosine_min_lr_ratio", share, rate)
    options = file.get("lr_scheduler_kwargs")
    if isinstance(options, dict) and set(options) <= {"min_lr", "min_lr_rate"}:
        if "min_lr" in options:
            file.put("train.min_lr", options["min_lr"], "lr_scheduler_kwargs")
        else:
            _read_floor(file, "lr_scheduler_kwargs", options["min_lr_rate"], rate)
    if name == "constant":
        file.leave("this schedule has no warm-up", "warmup_ratio", "warmup_steps")
        file.notes.append(
            "`constant` has no warm-up there, and has none here; constant_with_warmup has one"
        )
    else:
        _read_warmup(file, warms_up)


def _read_floor(file: Foreign, key: str, share: float, rate: float | None) -> None:
    if rate is None:
        file.refuse("is a share of learning_rate, which is not stated; state it there", key)
    else:
        file.put("train.min_lr", float(f"{share * rate:.12g}"), key)  # not 2.0000000000000003e-06


def _read_warmup(file: Foreign, warms_up: bool) -> None:
    ratio, steps = file.number("warmup_ratio"), file.number("warmup_steps")
    if steps is not None and 0 < steps < 1:  # how transformers 5 says a share
        file.put("train.warmup_fraction", steps, "warmup_steps")
        file.leave("warmup_steps decides", "warmup_ratio")
    # Transformers takes no steps for none stated, and axolotl for a word of its own.
    elif steps is not None and (steps or warms_up or ratio is None):
        file.put("train.warmup_steps", steps, "warmup_steps")
        file.leave("warmup_steps decides", "warmup_ratio")
    elif ratio is not None:
        file.put("train.warmup_fraction", ratio, "warmup_ratio")
        file.leave("warmup_ratio decides", "warmup_steps")
    elif warms_up:
        file.put("train.warmup_fraction", 0.03)
        file.notes.append("the warm-up is 3 % of all steps, as it is there (at most 100 steps)")


def read_length(file: Foreign, epochs: float) -> float:
    """Read how long the run is; gives its epochs, where it is told in epochs."""
    steps = file.number("max_steps", -1)
    keys = ("num_epochs", "num_train_epochs")
    stated: Any = next((file.number(key) for key in keys if key in file), epochs)
    if steps is not None and steps > 0:
        file.put("train.max_steps", steps, "max_steps")
        file.leave("max_steps decides", *keys)
    else:
        file.put("train.epochs", stated, *keys)
        file.leave("epochs decide", "max_steps")
    return float(stated)


def read_batch(file: Foreign, size_key: str, size: int, devices: int) -> None:
    """Read rows of a forward pass and of an optimizer step, over so many devices."""
    micro = int(file.number(size_key, size))
    accumulated = int(file.number("gradient_accumulation_steps", 1))
    file.put("train.micro_batch_size", micro, size_key)
    keys = (size_key, "gradient_accumulation_steps")
    file.put("train.effective_batch_size", micro * accumulated * devices, *keys)
    if devices > 1:
        file.put("devices", devices)
    else:
        file.notes.append(
            f"an optimizer step has {micro * accumulated} rows, on one device; --devices N says "
            "how many it ran on"
        )


def read_adapter(file: Foreign, method: str, alpha: float, dropout: float) -> None:
    """Read the adapter of methods lora, qlora and relora."""
    file.put("lora.rank", int(file.number("lora_r", 16)), "lora_r")
    file.put("lora.alpha", file.number("lora_alpha", alpha), "lora_alpha")
    file.put("lora.dropout", file.number("lora_dropout", dropout), "lora_dropout")
    targets = file.get("lora_target_modules")
    if file.get("lora_target_linear") is True or targets in ("all-linear", ["all-linear"]):
        file.put("lora.target_modules", "all-linear", "lora_target_linear")
        if targets in ("all-linear", ["all-linear"]):
            file.put("lora.target_modules", "all-linear", "lora_target_modules")
        else:
            file.leave("all linear layers are adapted", "lora_target_modules")
    elif targets is not None:
        file.put("lora.target_modules", targets, "lora_target_modules")
    else:
        file.refused["lora_target_modules"] = (
            "is not stated, and what is adapted then depends on the other tool's list of models; "
            "state it there, as in lora_target_modules: all-linear"
        )
    dora, rslora = ("peft_use_dora", "use_dora"), ("peft_use_rslora", "use_rslora")
    for keys, variant in ((dora, "dora"), (rslora, "rslora")):
        for key in keys:
            if file.get(key) is True:
                file.put("lora.variant", variant, key)
    if layers := file.get("peft_layers_to_transform"):
        file.put("lora.layers", layers, "peft_layers_to_transform")
    why = "only the adapter learns; for new tokens say add_tokens"
    file.refuse(why, "lora_modules_to_save")
    file.leave(LOADING, "lora_fan_in_fan_out", "lora_task_type")
    if method == "qlora":
        file.put("quantization.bits", 4, "load_in_4bit")
    if file.get("load_in_8bit") is True:
        file.refuse("a frozen base is in 4 bits (method qlora) or in 16", "load_in_8bit")


def read_precision(file: Foreign) -> None:
    """Read the precision that is computed in."""
    if file.get("fp16") is True:
        file.refuse("fp16 needs loss scaling; tunebook computes in bf16 or fp32", "fp16")
    stated = file.get("bf16")
    if stated in (True, "full", "true"):
        file.put("precision", "bf16", "bf16")
    elif stated == "auto":
        file.put("precision", "auto", "bf16")
    elif stated is False and not file.get("fp16"):
        file.put("precision", "fp32", "bf16")


def read_checkpointing(file: Foreign, default: bool) -> None:
    """Read gradient checkpointing."""
    stated = file.get("gradient_checkpointing", default)
    on = stated not in (False, None)
    file.put("train.gradient_checkpointing", on, "gradient_checkpointing")
    file.leave(FAST, "gradient_checkpointing_kwargs")


def read_saving(file: Foreign) -> None:
    """Read when the run is saved, where it is told in steps or epochs."""
    if file.get("save_strategy") == "epoch":
        file.put("checkpoint.every", "epoch", "save_strategy")
    elif (steps := file.number("save_steps")) is not None:
        every = f"{100 * steps:g}%" if 0 < steps < 1 else steps
        file.put("checkpoint.every", every, "save_steps")
    if (kept := file.number("save_total_limit")) is not None:
        file.put("checkpoint.keep", kept, "save_total_limit")
    file.leave("the newest, the best and the last are kept", "save_strategy", "save_only_model")


def read_model(file: Foreign, key: str, revision_key: str) -> None:
    """Read which model."""
    model, revision = file.get(key), file.get(revision_key, "main")
    if model is not None:
        whole = str(model) if revision == "main" else f"{model}@{revision}"
        file.put("model", whole, key, revision_key)
    if file.get("trust_remote_code") is True:
        file.refuse("code that comes with a model is never run", "trust_remote_code")
