"""A model without its weights: its config, its modules on the meta device, its files' headers.

Nothing here reads a weight, so a model of any size takes seconds and next to no memory.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub import get_safetensors_metadata
from huggingface_hub.errors import NotASafetensorsRepoError
from safetensors import safe_open
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    __version__,
)

from tunebook.errors import ModelError
from tunebook.models.find import find_config, has_pickled_weights
from tunebook.models.load import quieten_transformers, wrap_in_lora
from tunebook.models.plain_config import plain_config
from tunebook.models.screen import way_to_convert
from tunebook.models.weight_files import find_damage, weight_files
from tunebook.recipe.home import expand_home
from tunebook.recipe.hub_path import EMBEDDED
from tunebook.recipe.methods import Lora

Shape = tuple[int, ...]


def load_config(model: str) -> Any:
    """Give the transformers config of a model, fetching no more than config.json.

    Raises ModelError when there is none, when transformers does not know the architecture or
    rejects the values, when the model needs its own code, when it is no causal language model, or
    when its weights are stored quantized.
    """
    folder = find_config(model)
    kind = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    if kind not in CONFIG_MAPPING:
        raise ModelError(
            f"model {model!r} is of model_type {kind!r}, which transformers {__version__} does not "
            "know; use another model, or a transformers that has this one"
        )
    quieten_transformers()
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # each architecture rejects values in its own way
        raise _rejected(model, error) from None
    for name in ("vocab_size", "num_hidden_layers", "hidden_size", "max_position_embeddings"):
        value = getattr(config, name, None)
        if value is not None and (not isinstance(value, int) or value < 1):
            raise _rejected(model, ValueError(f"{name} is {value!r}"))
    if getattr(config, "quantization_config", None) is not None:
        raise ModelError(
            f"model {model!r} is stored quantized, and nothing but an adapter could be trained on "
            "that; use the model it was made from, with method: qlora for 4 bits"
        )
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ModelError(
            f"model {model!r} is of model_type {kind!r}, of which transformers has no causal "
            "language model; use a model that writes text from left to right"
        )
    return config


def build_skeleton(config: Any) -> Any:
    """Build the causal language model of a config on the meta device: modules and shapes only.

    A tied head is tied. Raises ModelError when the modules cannot be built from these values.
    """
    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(plain_config(config), trust_remote_code=False)
    except Exception as error:
        raise _rejected(config.name_or_path, error) from None


def with_rows_for(config: Any, added_ids: Sequence[int]) -> Any:
    """Copy a config with an embedding for each of these tokens."""
    config = copy.deepcopy(config)
    text = config.get_text_config()
    text.vocab_size = max(text.vocab_size, *(number + 1 for number in added_ids))
    return config


def add_lora_to_skeleton(causal: Any, lora: Lora, added_ids: Sequence[int] = ()) -> Any:
    """Put an adapter on a skeleton, on the meta device too; `causal` is changed in place.

    Raises ModelError when no module has the given names.
    """
    with torch.device("meta"):
        return wrap_in_lora(causal, lora, added_ids)


def _rejected(model: str, error: Exception) -> ModelError:
    reason = " ".join(str(error).split())
    return ModelError(
        f"model {model!r}: transformers cannot build a model from its config.json "
        f"({type(error).__name__}: {reason[:300]}); correct that value, or use another model"
    )


@dataclass(frozen=True, slots=True)
class WeightFiles:
    """Whether a model's weights are there, from the headers of its files alone.

    `state`: complete; damaged (a file is missing, cut or garbled); incomplete (a weight has no
    counterpart of its shape, so it would start random); absent (a plan takes a config.json alone,
    on purpose or not); unknown (the hub did not say). `message` says what
    is wrong and the way out, None when complete. `missing` are names of the model's weights.
    `n_stored` counts the elements in all the files, for a cross-check of the model's own count; a
    file may also hold tensors that are no parameters, such as GPT-2's causal masks.
    """

    state: Literal["complete", "damaged", "incomplete", "absent", "unknown"]
    message: str | None = None
    missing: tuple[str, ...] = ()
    n_stored: int | None = None


def check_weights(model: str, causal: Any) -> WeightFiles:
    """Compare names and shapes in a model's weight files with its skeleton, without an adapter.

    Reads headers only: of local files, else of those on the hub. What renamings and mergings
    transformers does when it loads an architecture are taken into account, for it does them here.
    """
    folder = find_config(model)
    local = _local_shapes(folder, model)
    on_hub = model != EMBEDDED and not expand_home(model).is_dir()
    found = _hub_shapes(model) if on_hub and isinstance(local, WeightFiles) else local
    return found if isinstance(found, WeightFiles) else _compare(model, causal, found)


def _local_shapes(folder: Path, model: str) -> dict[str, Shape] | WeightFiles:
    files = weight_files(folder)
    if not files:
        reason = "only pickled weights" if has_pickled_weights(folder) else "no weights"
        return WeightFiles(
            "absent",
            f"model {model!r}: {folder} holds {reason}; training needs model.safetensors, or its "
            "parts with model.safetensors.index.json",
        )
    if (damage := find_damage(folder)) is not None:
        return WeightFiles("damaged", f"model {model!r}: {damage}")
    shapes: dict[str, Shape] = {}
    for file in files:
        with safe_open(file, framework="pt") as tensors:
            shapes |= {n: tuple(tensors.get_slice(n).get_shape()) for n in tensors.keys()}  # noqa: SIM118
    return shapes


def _hub_shapes(model: str) -> dict[str, Shape] | WeightFiles:
    repo_id, _, revision = model.partition("@")
    try:
        found = get_safetensors_metadata(repo_id, revision=revision or None)
    except NotASafetensorsRepoError:
        return WeightFiles(
            "absent",
            f"model {model!r} has no safetensors weights on the hub; "
            f"{way_to_convert(model)}, if it has pytorch_model.bin",
        )
    except Exception as error:  # which HTTP library the hub's client uses is its own affair
        return WeightFiles(
            "unknown",
            f"model {model!r}: the hub did not say what its weights hold "
            f"({type(error).__name__}); check the network, or HF_TOKEN if the model is private",
        )
    return {
        name: tuple(tensor.shape)
        for file in found.files_metadata.values()
        for name, tensor in file.tensors.items()
    }


def _compare(model: str, causal: Any, shapes: Mapping[str, Shape]) -> WeightFiles:
    n_stored = sum(prod(shape) for shape in shapes.values())
    quieten_transformers()
    try:
        _, loading = type(causal).from_pretrained(
            None,
            config=causal.config,
            state_dict={n: torch.empty(shape, device="meta") for n, shape in shapes.items()},
            device_map="meta",
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        return WeightFiles(
            "unknown",
            f"model {model!r}: its weight names cannot be compared ({reason}); use a model whose "
            "weights are not packed or converted",
            n_stored=n_stored,
        )
    missing = (*sorted(loading["missing_keys"]), *sorted(k[0] for k in loading["mismatched_keys"]))
    if not missing:
        return WeightFiles("complete", n_stored=n_stored)
    return WeightFiles(
        "incomplete",
        f"model {model!r}: {len(missing)} weights are not in its files, or not in this shape, and "
        f"would start random, the first of them {missing[0]}; use a complete model",
        missing,
        n_stored,
    )
