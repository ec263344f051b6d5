"""Load a causal language model for training, and tell what was loaded."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils.logging import disable_progress_bar

from tunebook.errors import ModelError, first_line
from tunebook.models.adapter_bounds import refuse_boundless
from tunebook.models.attention import FLAT, register_flat_attention
from tunebook.models.fast_modules import use_fast_adapters
from tunebook.models.find import find_model
from tunebook.models.layers import (
    find_layers,
    layer_numbers,
    linear_names,
    nearest_module,
    of_adapter,
)
from tunebook.models.plain_config import own_code_note, plain_config
from tunebook.models.quantize import keep_layout, quantizing_config, weight_count
from tunebook.models.relora import Merger, plain_state
from tunebook.models.screen import screen_adapter
from tunebook.models.tokenizer import copy_tokenizer
from tunebook.models.tried import refuse_endless_expressions
from tunebook.models.weight_files import refuse_damage
from tunebook.recipe.methods import Lora, Quantization
from tunebook.units import shorten

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready for the step. `network` is what is called; `causal` the model inside it.

    They differ only when an adapter wraps the model. `flat` says that rows of several documents
    may be given at once. `unexpected` are weights in its files that it has no use for, `notes` what
    was done to it that its user may not expect. With method relora, `merger` merges the adapter.
    `root` is there when the weights are spread over several devices: see `step.sharding`. `exact`
    are trained weights as the files have them, by name, where the model has them rounded.
    """

    network: Any
    causal: Any
    folder: Path
    flat: bool
    context_length: int | None
    unexpected: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    merger: Merger | None = None
    root: Any | None = None
    exact: Mapping[str, torch.Tensor] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        """Where its parameters are."""
        device: torch.device = next(self.causal.parameters()).device
        return device

    def trainable(self) -> dict[str, torch.nn.Parameter]:
        """Name the parameters that learn, each tied one once."""
        return {n: p for n, p in self.network.named_parameters() if p.requires_grad}

    def counts(self) -> dict[str, int]:
        """Count parameters: `total` of the base (tied once), `trainable`, `adapter`, `looked_up`.

        Those looked up are trained embeddings of which a step moves only the rows of its tokens.

        A 4-bit weight counts as one weight, not as the half byte it is stored in.
        """
        adapter = sum(p.numel() for n, p in self.network.named_parameters() if of_adapter(n))
        total = sum(weight_count(p) for p in self.network.parameters()) - adapter
        return {
            "total": total,
            "trainable": sum(p.numel() for p in self.trainable().values()),
            "adapter": adapter,
            "looked_up": self._looked_up(),
        }

    def _looked_up(self) -> int:
        head = self.causal.get_output_embeddings()
        return sum(
            module.weight.numel()
            for module in self.causal.modules()
            if isinstance(module, torch.nn.Embedding)
            and module.weight.requires_grad
            and module.weight is not getattr(head, "weight", None)
        )


def choose_device(wanted: str) -> str:
    """Turn `auto` into the best device there is, and a card into cuda.

    ModelError when the wanted one is missing.
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": _mps()}
    if wanted == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if there[name])
    kind = wanted if wanted in there else "cuda"
    if not there[kind]:
        usable = ", ".join(name for name, ok in there.items() if ok)
        raise ModelError(f"device {wanted!r} is not on this machine; it has {usable}")
    return kind


def _mps() -> bool:
    return bool(torch.backends.mps.is_available())


def choose_precision(wanted: str, device: str) -> str:
    """Turn `auto` into bf16 where the device computes in it natively, else fp32."""
    if wanted != "auto":
        if wanted == "bf16" and device == "cuda" and not torch.cuda.is_bf16_supported(False):
            raise ModelError("precision bf16: this GPU does not compute in bf16; use fp32")
        return wanted
    native = device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if native else "fp32"


def quieten_transformers() -> None:
    """Keep transformers, and what it imports, from writing bars and remarks of their own."""
    for library in ("transformers", "bitsandbytes"):
        logging.getLogger(library).setLevel(logging.ERROR)
    disable_progress_bar()


def load_model(
    model: str,
    *,
    device: str,
    precision: str,
    attention: str,
    quantization: Quantization | None = None,
) -> LoadedModel:
    """Load weights from safetensors onto a device, in 4 bits where `quantization` says how.

    Raises ModelError when transformers does not know the architecture, when a weight of the
    architecture is missing from the files (it would silently start random), or when this machine
    cannot quantize.
    """
    folder = find_model(model)
    refuse_damage(folder, model)
    dtype = _DTYPES[precision]
    quantizing = None
    if quantization is not None:
        quantizing = quantizing_config(quantization, device, dtype)
    register_flat_attention()
    wanted = FLAT if attention == "auto" else attention
    quieten_transformers()
    try:
        stated = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        config = plain_config(stated)
        causal, loading = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            attn_implementation=wanted,
            quantization_config=quantizing,
            device_map=None if quantizing is None else {"": device},
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except Exception as error:  # a damaged file or unknown architecture surfaces as many types
        said = first_line(error)
        raise ModelError(f"model {model!r} in {folder} cannot be loaded: {said}") from None
    if loading["missing_keys"]:
        names = sorted(loading["missing_keys"])
        raise ModelError(
            f"model {model!r}: {len(names)} weights are not in its files and would start random, "
            f"the first of them {names[0]}; use a complete model"
        )
    if quantizing is None:
        causal.to(device)
    else:
        keep_layout(causal)
    length = getattr(config, "max_position_embeddings", None)
    unexpected = tuple(sorted(loading["unexpected_keys"]))
    flat, notes = attention == "auto", own_code_note(stated)
    return LoadedModel(causal, causal, folder, flat, length, unexpected, notes)


def grow_vocabulary(loaded: LoadedModel, added_ids: Sequence[int], seed: int) -> LoadedModel:
    """Give new tokens their rows of embedding and head, drawn by transformers around the others.

    A model with spare rows keeps them, and it is noted.
    """
    if not added_ids:
        return loaded
    rows = loaded.causal.get_input_embeddings().weight.shape[0]
    if max(added_ids) < rows:
        note = f"add_tokens: the model has {rows:,} embeddings, which are enough"
        return replace(loaded, notes=(*loaded.notes, note))
    torch.manual_seed(seed)
    loaded.causal.resize_token_embeddings(max(added_ids) + 1)
    return loaded


def add_lora(
    loaded: LoadedModel, lora: Lora, base_name: str, seed: int, added_ids: Sequence[int] = ()
) -> LoadedModel:
    """Freeze the model and add a fresh LoRA adapter (B = 0, so the first output is the base's).

    The rows of `added_ids` learn with it. Raises ModelError when no module has the given names.
    """
    torch.manual_seed(seed)
    network = wrap_in_lora(loaded.causal, lora, added_ids)
    network.peft_config["default"].base_model_name_or_path = base_name
    return replace(loaded, network=network)


def wrap_in_lora(causal: Any, lora: Lora, added_ids: Sequence[int] = ()) -> Any:
    """Freeze a model and put a LoRA adapter on it, made on the default device.

    Of embedding and head the rows of `added_ids` learn. The model's modules are changed in place.
    Raises ModelError when no module has the given names, or no layer the given number.
    """
    # peft costs seconds to import and only adapter runs need it.
    from peft import LoraConfig, get_peft_model

    _refuse_unknown(lora, causal)
    targets, chosen, pattern = lora.target_modules, None, None
    if lora.layers != "all":
        path, layers = find_layers(causal)
        chosen = layer_numbers("lora.layers", lora.layers, len(layers))
        pattern = path.rpartition(".")[2]
        if targets == "all-linear":
            # peft would name each of them in full, and then take no notice of the layers.
            targets = linear_names(layers)
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets,
        layers_to_transform=chosen,
        layers_pattern=pattern,
        use_rslora=lora.variant == "rslora",
        use_dora=lora.variant == "dora",
        task_type="CAUSAL_LM",
    )
    if added_ids:
        config.trainable_token_indices = _token_rows(causal, lora, list(added_ids))
    try:
        with peft_as_it_is():
            network = get_peft_model(causal, config, autocast_adapter_dtype=False)
    except ValueError as error:
        raise ModelError(
            f"lora.target_modules {lora.target_modules!r}: {first_line(error)}; "
            "all-linear adapts every linear layer"
        ) from None
    _refuse_unused(lora, network.base_model.targeted_module_names)
    use_fast_adapters(network)
    return network


def _refuse_unknown(lora: Lora, causal: Any) -> None:
    """Raise ModelError for a name or a pattern that no module has: peft may pass over it."""
    names, paths = lora.target_modules, [path for path, _ in causal.named_modules()]
    if names == "all-linear":
        return
    if isinstance(names, str):
        refuse_endless_expressions([names], paths, f"lora.target_modules {shorten(names)!r}")
        try:
            fits = any(re.fullmatch(names, path) for path in paths)
        except re.error as error:
            raise ModelError(
                f"lora.target_modules {names!r} is no pattern ({error}); give a list of names, or "
                "all-linear"
            ) from None
        if not fits:
            raise ModelError(
                f"lora.target_modules {names!r} is read as a pattern of whole paths, which no "
                f"module of the model fits; give all-linear, or a list of names: "
                f"{nearest_module(causal, names)}"
            )
        return
    for name in names:
        if not _ends_one(name, paths):
            raise ModelError(
                f"lora.target_modules names {name!r}, which no module of the model is; "
                f"{nearest_module(causal, name)}"
            )


def _refuse_unused(lora: Lora, adapted: Sequence[str]) -> None:
    """Raise ModelError for a name that adapted nothing: peft passes over it without a word."""
    for name in lora.target_modules if isinstance(lora.target_modules, list) else []:
        if not _ends_one(name, adapted):
            raise ModelError(
                f"lora.target_modules names {name!r}, which is in none of the layers that "
                f"lora.layers {lora.layers!r} names; leave it out, or say `layers: all`"
            )


def _ends_one(name: str, paths: Sequence[str]) -> bool:
    return any(f".{path}".endswith(f".{name}") for path in paths)


def _token_rows(causal: Any, lora: Lora, ids: list[int]) -> dict[str, list[int]]:
    """Name the modules that hold a row per token, for peft to train some rows of."""
    modules = [causal.get_input_embeddings(), causal.get_output_embeddings()]
    if modules[1] is None or modules[1].weight is modules[0].weight:
        modules = modules[:1]  # peft follows the tie
    elif getattr(modules[1], "bias", None) is not None:
        raise ModelError(
            "`add_tokens` with an adapter: peft would leave out the bias of this model's head; say "
            "method: full"
        )
    paths = [path for path, module in causal.named_modules() if module in modules]
    names = {path.rpartition(".")[2] for path in paths}
    asked = [lora.target_modules] if isinstance(lora.target_modules, str) else lora.target_modules
    for name in names.intersection(asked):
        raise ModelError(
            f"`add_tokens` trains rows of {name}, so lora.target_modules cannot adapt it too; "
            "leave one out"
        )
    return dict.fromkeys(names, ids)


@contextmanager
def peft_as_it_is() -> Iterator[None]:
    """Leave out what peft tells and nobody can act on.

    GPT-2's weights are transposed, which it finds out by itself; ranks for experts are its own and
    not ours; an attribute of transformers it knows by its old name.
    """
    with warnings.catch_warnings():
        for told in ("fan_in_fan_out is set to", "The following .*_pattern keys", ".*deprecated"):
            warnings.filterwarnings("ignore", message=told)
        yield


def load_adapter(loaded: LoadedModel, folder: Path) -> LoadedModel:
    """Put a saved adapter on its base model, ready to be trained further.

    Raises ModelError for one that names code or cannot be read.
    """
    screen_adapter(folder)
    refuse_boundless(folder, loaded.causal)
    from peft import PeftModel

    try:
        with peft_as_it_is():
            network = PeftModel.from_pretrained(
                loaded.causal, str(folder), is_trainable=True, autocast_adapter_dtype=False
            )
    except Exception as error:  # a damaged file or a strange setting surfaces as many types
        said = first_line(error)
        raise ModelError(f"the adapter in {folder} cannot be loaded: {said}") from None
    use_fast_adapters(network)
    return replace(loaded, network=network)


def save_weights(
    loaded: LoadedModel, folder: Path, weights: dict[str, torch.Tensor] | None = None
) -> None:
    """Write weights, config and tokenizer under Hugging Face or PEFT names, as safetensors.

    `weights` are those of a model whose own are spread over several devices.
    """
    if loaded.network is loaded.causal:
        loaded.causal.save_pretrained(folder, state_dict=weights)
    elif loaded.merger is not None:
        loaded.causal.save_pretrained(folder, state_dict=plain_state(loaded.causal))
    else:
        # "auto" would ask the hub for the base's vocabulary size on every save.
        loaded.network.save_pretrained(folder, save_embedding_layers=False)
        (folder / "README.md").unlink(missing_ok=True)
    copy_tokenizer(loaded.folder, folder)
