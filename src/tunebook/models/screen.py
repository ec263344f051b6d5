"""Look through a stranger's model folder before a library opens it: code, links, sizes, nesting.

Only small JSON files are read here, with Python alone. What can run code is refused, whether or not
the library that would run it is installed.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunebook.errors import ModelError
from tunebook.models.named_files import (
    refuse_named_files,
    refuse_other_config,
    refuse_other_weights,
)
from tunebook.models.own_files import refuse_what_is_not_its_own, something_else
from tunebook.units import shorten

WHOLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"

_WHOLE_WEIGHTS = ("model*.safetensors", "pytorch_model*.bin")

MAX_JSON_BYTES = 64 << 20
"""An index of a thousand shards takes some megabytes; a config some kilobytes."""

_TOKENIZER = ("tokenizer_config.json", "special_tokens_map.json")
_SETTINGS = ("config.json", "generation_config.json", *_TOKENIZER, ADAPTER_CONFIG)
# One word names what transformers has, and is not followed here: see `plain_config`. Anything else,
# such as a name with a slash, is looked for on the hub, as a kernel to run.
_ATTENTION = re.compile(r"(paged\|)?[a-z0-9_]+")
_MANY = re.compile(r"(layers?|blocks|experts?|heads?|stages?|depths?)$")
# Words of keys whose numbers become the shapes of weights or buffers; a seed becomes none.
_SHAPES = re.compile(
    r"(^|_)(vocab|vocabulary|hidden|intermediate|inner|embd|embed|embeddings?|dims?|width|channels|"
    r"d|ffn?|ffw|mlp|ctx|positions?|layers?|blocks?|experts?|heads?|stages?|depths?|ranks?|groups|"
    r"kernel|patch|image|state)(_|$)|^model_max_length$|^max_sequence_length$"
)
_MOST_OF_MANY = 20_000
# Above every vocabulary, width and length there is; below what makes a library count out of bounds.
_MOST = 1 << 31
# What transformers passes on to timm for it to open.
_OTHER_WEIGHTS = ("checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay")
# What peft imports by name. Where it came from is no module to be loaded.
_IMPORTED = ("megatron_config", "auto_mapping")


def screen_folder(folder: Path, model: str, *, for_its_tokenizer: bool = False) -> None:
    """Raise ModelError for what a model's folder must not hold; its weights are not opened.

    Refused are settings that name code which transformers would need, sizes no model has, or files
    that are not the model's; settings that are no JSON object; an index of weights that names a
    file outside of the folder; links out of the folder; an adapter beside the model, but
    `for_its_tokenizer`, which it cannot change.
    """
    whose = f"model {model!r}"
    refuse_what_is_not_its_own(folder, whose)
    if not for_its_tokenizer:
        _refuse_adapter_beside(folder, whose)
    for name in _SETTINGS:
        if (folder / name).is_file():
            settings = read_settings(folder / name, whose)
            if settings.get("auto_map") and _does_without(name, settings, folder, whose):
                del settings["auto_map"]
            _refuse_code(settings, folder / name, whose)
            if name in _TOKENIZER:
                refuse_named_files(settings, name, folder, whose)
                _refuse_many_tokens(settings, name, whose)
    if (folder / "config.json").is_file():
        config = read_settings(folder / "config.json", whose)
        _refuse_weights_of_parts(config, whose)
        _refuse_sizes(config, folder, whose)
        looked_at = (WHOLE,) if os.path.isfile(folder / WHOLE) else (WHOLE, INDEX)
        refuse_other_weights(config, looked_at, whose)
        refuse_other_config(config, whose)
    if (folder / INDEX).is_file():
        _refuse_outside(folder, whose)


def way_to_convert(model: str) -> str:
    """Say how pickled weights become safetensors, with the command to be typed."""
    name = Path(model).name.partition("@")[0] or "model"
    written = shlex.join(["tunebook", "convert", model, "-o", f"{name}-safetensors"])
    return f"`{written}` writes them as safetensors, in a process of its own without network"


def screen_adapter(folder: Path, *, pickled: bool = False) -> None:
    """Raise ModelError for an adapter that names code or others' files, or with pickled weights.

    `pickled`: weights as pickle, which nobody opens here, are taken too.
    """
    whose = f"the adapter in {folder}"
    refuse_what_is_not_its_own(folder, whose)
    settings = read_settings(folder / ADAPTER_CONFIG, whose)
    _refuse_code(settings, folder / ADAPTER_CONFIG, whose)
    for name in _TOKENIZER:
        if (folder / name).is_file():
            refuse_named_files(read_settings(folder / name, whose), name, folder, whose)
    if (kind := settings.get("peft_type")) != "LORA":
        raise ModelError(f"{whose} is of peft_type {kind!r}; only LORA is loaded here")
    for key in _IMPORTED:
        if settings.get(key):
            raise ModelError(
                f"{whose} names Python code to be imported ({key} in {ADAPTER_CONFIG}), which "
                "tunebook does not run; take that key out"
            )
    if settings.get("layer_replication"):
        raise ModelError(
            f"{whose} repeats layers of its base (layer_replication in {ADAPTER_CONFIG}), which is "
            "not done here; use an adapter without it"
        )
    if not pickled and not (folder / ADAPTER_WEIGHTS).is_file():
        raise ModelError(
            f"{whose} has no {ADAPTER_WEIGHTS}; weights as pickle are not opened, for they can "
            f"run code; {way_to_convert(str(folder))}"
        )


def read_settings(path: Path, whose: str) -> dict[str, Any]:
    """Read a JSON object of settings; ModelError names the file where it is none."""
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ModelError(f"{whose}: {path} is over 64 MiB, so it holds no settings")
        if not (text := path.read_text(encoding="utf-8")).strip():
            raise ModelError(f"{whose}: {path} is empty; copy or download it again")
        found = json.loads(text)
    except RecursionError:
        raise ModelError(f"{whose}: {path} is nested too deeply to be settings") from None
    except (ValueError, OSError) as error:
        if (instead := something_else(path)) is not None:
            raise ModelError(f"{whose}: {path}: {instead}; copy or fetch it anew") from None
        raise ModelError(f"{whose}: {path} cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise ModelError(f"{whose}: {path} holds no settings by name, so it is no config")
    return found


def _does_without(name: str, settings: dict[str, Any], folder: Path, whose: str) -> bool:
    """Tell whether transformers has its own class for what a file names code for.

    It then takes its own, for every load here says that no code is trusted.
    """
    config = settings if name == "config.json" else {}
    if name == "tokenizer_config.json" and (folder / "config.json").is_file():
        config = read_settings(folder / "config.json", whose)
    # Costs seconds, so it is looked up only where a model brings code.
    from transformers import CONFIG_MAPPING

    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        return False
    if not CONFIG_MAPPING[kind].__module__.startswith("transformers."):
        return False
    return name == "config.json" or _has_tokenizer_class(kind, settings)


def _has_tokenizer_class(kind: str, settings: dict[str, Any]) -> bool:
    """Tell whether transformers finds a tokenizer without a model's code."""
    from transformers import CONFIG_MAPPING, TOKENIZER_MAPPING
    from transformers.models.auto.tokenization_auto import tokenizer_class_from_name

    if CONFIG_MAPPING[kind] in TOKENIZER_MAPPING:
        return True
    named = settings.get("tokenizer_class")
    return isinstance(named, str) and tokenizer_class_from_name(named) is not None


def _refuse_code(settings: dict[str, Any], path: Path, whose: str) -> None:
    for key, value in _every_key(settings):
        found = _names_code(key, value)
        if found:
            raise ModelError(
                f"{whose} brings its own Python code ({found} in {path.name}), which tunebook does "
                "not run; use an architecture that transformers has, and take that key out where "
                "it has it"
            )


def _names_code(key: str, value: object) -> str | None:
    """Name the setting that asks for code of somebody else's to be run; None where it does not."""
    if key == "auto_map" and value:
        return "auto_map"
    if key in ("trust_remote_code", "custom_generate", "custom_pipelines") and value:
        return key
    if key.lstrip("_").startswith(("attn_implementation", "experts_implementation")):
        names = value.values() if isinstance(value, dict) else [value]
        odd = [n for n in names if isinstance(n, str) and not _ATTENTION.fullmatch(n)]
        return f"{key} {odd[0][:60]!r}" if odd else None
    return None


def _refuse_weights_of_parts(config: dict[str, Any], whose: str) -> None:
    """Refuse a part, such as one that sees, whose weights timm would take from a file or the hub.

    It opens them as pickle, in some versions with whatever code is in them.
    """
    for key, value in _every_key(config):
        elsewhere = key in ("architecture", "backbone") and isinstance(value, str) and ":" in value
        if elsewhere or (key in _OTHER_WEIGHTS and value):
            raise ModelError(
                f"{whose}: {key} in config.json names weights of a part of it "
                f"({shorten(str(value))}), and those are in its own files alone; take that key "
                "out, or use another model"
            )


def _every_key(settings: object) -> Iterator[tuple[str, object]]:
    """Yield every key with its value, however deep; not by recursion, for depth is a stranger's."""
    left = [settings]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            yield from value.items()
            left.extend(value.values())
        elif isinstance(value, list):
            left.extend(value)


def _every_number(settings: object) -> Iterator[tuple[str, int]]:
    """Yield every whole number that becomes a shape, with its key, also from lists."""
    for key, value in _every_key(settings):
        if not _SHAPES.search(key):
            continue
        for one in value if isinstance(value, list) else [value]:
            # A length such as 10^30 as a float stands for none.
            if isinstance(one, int) and not isinstance(one, bool):
                yield key, one


def _refuse_sizes(settings: dict[str, Any], folder: Path, whose: str) -> None:
    for key, value in _every_number(settings):
        most = _MOST_OF_MANY if _MANY.search(key) else _MOST
        if abs(value) > most:
            raise ModelError(
                f"{whose}: {key} is {str(value)[:24]} in {folder / 'config.json'}, and no model "
                f"has more than {most:,}; correct it, or use another model"
            )


def _refuse_many_tokens(settings: dict[str, Any], name: str, whose: str) -> None:
    """Refuse tokens by their number alone: transformers writes down each before it loads any."""
    count = settings.get("extra_ids")
    if isinstance(count, (int, float)) and count > _MOST_OF_MANY:
        raise ModelError(
            f"{whose}: extra_ids is {str(count)[:24]} in {name}, and no tokenizer has more than "
            f"{_MOST_OF_MANY:,}; correct it, or use another model"
        )


def _refuse_adapter_beside(folder: Path, whose: str) -> None:
    """Refuse a folder that is a model and an adapter: transformers would load both.

    Which of the two was meant is not said by its name, and the adapter may be a stranger's.
    """
    if not ((folder / "config.json").exists() and (folder / ADAPTER_CONFIG).exists()):
        return
    if not any(any(folder.glob(pattern)) for pattern in _WHOLE_WEIGHTS):
        raise ModelError(
            f"{whose}: {folder} holds {ADAPTER_CONFIG} beside config.json, and no weights of a "
            f"whole model, so it is an adapter; {way_of_adapter(folder)}"
        )
    new = shlex.quote(f"{folder.resolve().name or 'model'}-alone")
    raise ModelError(
        f"{whose}: {folder} holds {ADAPTER_CONFIG} beside config.json, and an adapter would "
        "change the model unseen; for the model alone, name the folder that "
        f"`{shlex.join(['cp', '-rL', str(folder)])} {new} && rm {new}/adapter_*` makes; for the "
        f"adapter, {way_of_adapter(folder)}"
    )


def way_of_adapter(folder: Path) -> str:
    """Say what an adapter that is no run's can be used by; its base is named where it says it."""
    try:
        base = read_settings(folder / ADAPTER_CONFIG, "").get("base_model_name_or_path")
    except ModelError:
        base = None
    named = f", {shorten(base)!r}," if isinstance(base, str) and base else ""
    return (
        f"name its base model{named} or the run it came from as run:NAME, or merge it into its "
        "base with peft (`merge_and_unload`, then `save_pretrained`) and name the folder that "
        "gives"
    )


def _refuse_outside(folder: Path, whose: str) -> None:
    if (folder / INDEX).stat().st_size > MAX_JSON_BYTES:
        raise ModelError(f"{whose}: {folder / INDEX} is over 64 MiB, so it is no index of weights")
    try:
        names = read_settings(folder / INDEX, whose).get("weight_map")
    except ModelError:
        return  # a plan calls it incomplete, for no weight is found by it
    if not isinstance(names, dict):
        return
    for name in sorted({str(each) for each in names.values()}):
        if not re.fullmatch(r"[^/\\\0]+\.safetensors", name):
            raise ModelError(
                f"{whose}: {folder / INDEX} names {shorten(name)!r}, which is no "
                ".safetensors file of this folder; fetch the model anew"
            )
