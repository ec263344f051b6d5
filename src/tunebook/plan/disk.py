"""What a run will write, and whether the volume of its folder has room for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tunebook.book.atomic import free_bytes
from tunebook.models.tokenizer import tokenizer_bytes
from tunebook.plan.clock import steps_due
from tunebook.plan.result import Disk, Parameters
from tunebook.recipe.tree import Recipe
from tunebook.step.horizon import Horizon

_WEIGHT_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
_MASTER_BYTES = 4
# Name, type, shape and place of a tensor in the header of a safetensors file.
_HEADER_BYTES = 130


def plan_disk(
    run_folder: Path,
    recipe: Recipe,
    precision: str,
    parameters: Parameters,
    n_trainable_tensors: int,
    *,
    tokenizer_folder: Path | None,
    horizon: Horizon | None,
    eight_bit_bytes: int = 0,
    kept_bytes: int = 0,
) -> Disk:
    """Count what stands on disk at the fullest moment of a run, or of all parts of one.

    The newest `checkpoint.keep` stand, the best one where it may be none of them, and the one being
    written or, in its place at the end, the final weights; checkpoints of pauses are not foreseen,
    the book's token files are there already. The run's folder need not be. `eight_bit_bytes` are
    those of averages in 8 bits, `kept_bytes` those of activations in a file. Raises OSError when
    its volume cannot be asked.
    """
    copied = 0 if tokenizer_folder is None else tokenizer_bytes(tokenizer_folder)
    final = weight_bytes(recipe, precision, parameters, n_trainable_tensors) + copied
    checkpoint = final + optimizer_bytes(recipe, precision, parameters, n_trainable_tensors)
    checkpoint += eight_bit_bytes
    if recipe.method == "relora":  # the weights once more, without the adapter, and the adapter
        checkpoint += _MASTER_BYTES * parameters.adapted
        checkpoint += parameters.adapter * _WEIGHT_BYTES[precision]
    lasting, most = _standing(recipe, horizon)
    parts = recipe.parts if recipe.parts is not None and recipe.part is None else 1
    kept = (parts - 1) * lasting + most
    # The final weights come when no checkpoint is being written any more.
    fullest = max(most * checkpoint, lasting * checkpoint + final)
    return Disk(
        needed_bytes=(parts - 1) * (lasting * checkpoint + final) + fullest + kept_bytes,
        free_bytes=free_bytes(run_folder),
        checkpoint_bytes=checkpoint,
        kept=kept,
        final_bytes=parts * final,
        activation_cache_bytes=kept_bytes,
    )


def weight_bytes(
    recipe: Recipe, precision: str, parameters: Parameters, n_trainable_tensors: int
) -> int:
    """Give the size of the weights as they are saved: all of them, or the adapter alone."""
    saved = parameters.total if recipe.method in ("full", "relora") else parameters.adapter
    return saved * _WEIGHT_BYTES[precision] + n_trainable_tensors * _HEADER_BYTES


def optimizer_bytes(
    recipe: Recipe, precision: str, parameters: Parameters, n_trainable_tensors: int
) -> int:
    """Give the size of the optimizer's state as it is saved, with fp32 masters of 16-bit weights.

    AdamW keeps two averages and a step count per tensor, SGD one average where it has momentum. Of
    AdamW in 8 bits only names are counted here, and masters.
    """
    train = recipe.train
    averages, tensors = {
        "adamw": (2, 3),
        "adamw_8bit": (0, 7),
        "sgd": (int(train.momentum > 0), int(train.momentum > 0)),
    }[train.optimizer]
    if precision != "fp32":
        averages, tensors = averages + 1, tensors + 1
    headers = n_trainable_tensors * tensors * _HEADER_BYTES
    return averages * parameters.trainable * _MASTER_BYTES + headers


def _standing(recipe: Recipe, horizon: Horizon | None) -> tuple[int, int]:
    """Give how many checkpoints of a run stand after it, and how many at most while it saves."""
    has_validation = recipe.validation.path is not None or recipe.validation.fraction != 0
    lasting = recipe.checkpoint.keep + has_validation
    if horizon is None:
        return lasting, lasting + 1
    keep, saves = recipe.checkpoint.keep, steps_due(horizon, recipe.checkpoint.every)
    if not has_validation:
        return min(keep, len(saves)), min(keep + 1, len(saves))
    # Each validation may be the best so far, and is saved then. One checkpoint more stands where
    # so many saves can follow on the best that it is none of the newest any more.
    validations = steps_due(horizon, recipe.evaluate.every)
    later = int((saves > validations[0]).sum())
    n = len(np.union1d(saves, validations))
    lasting = keep + 1 if later >= keep else min(keep, n)
    return lasting, keep + 2 if later > keep else min(keep + 1, n)
