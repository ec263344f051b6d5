"""Look through a stranger's model folder before a library opens it: code, links, sizes, nesting.

Only small JSON files are read here, with Python alone. What can run code is refused, whether or not
the library that would run it is installed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunebook.errors import ModelError

INDEX = "model.safetensors.index.json"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"

MAX_JSON_BYTES = 64 << 20
"""An index of a thousand shards takes some megabytes; a config some kilobytes."""

_SETTINGS = ("config.json", "generation_config.json", "tokenizer_config.json", ADAPTER_CONFIG)
# Attention of transformers itself; any other name is looked for on the hub, as a kernel to run.
_ATTENTION = re.compile(r"eager|sdpa|flex_attention|flash_attention_[0-9]|(paged\|)?(eager|sdpa)")
_MANY = re.compile(r"(layers?|blocks|experts?|heads?|stages?|depths?)$")
_MOST_OF_MANY = 20_000
# Above every vocabulary, width and length there is; below what makes a library count out of bounds.
_MOST = 1 << 31
# What peft imports by name. Where it came from is no module to be loaded.
_IMPORTED = ("megatron_config", "auto_mapping")


def screen_folder(folder: Path, model: str) -> None:
    """Raise ModelError for what a model's folder must not hold; its weights are not opened.

    Refused are settings that name code, or sizes no model has; settings that are no JSON object; an
    index of weights that names a file outside of the folder; links that lead out of it.
    """
    whose = f"model {model!r}"
    _refuse_links(folder, whose)
    for name in _SETTINGS:
        if (folder / name).is_file():
            _refuse_code(read_settings(folder / name, whose), folder / name, whose)
    if (folder / "config.json").is_file():
        _refuse_sizes(read_settings(folder / "config.json", whose), folder, whose)
    if (folder / INDEX).is_file():
        _refuse_outside(folder, whose)


def screen_adapter(folder: Path) -> None:
    """Raise ModelError for an adapter that names code, or whose weights are no safetensors."""
    whose = f"the adapter in {folder}"
    _refuse_links(folder, whose)
    settings = read_settings(folder / ADAPTER_CONFIG, whose)
    _refuse_code(settings, folder / ADAPTER_CONFIG, whose)
    if (kind := settings.get("peft_type")) != "LORA":
        raise ModelError(f"{whose} is of peft_type {kind!r}; only LORA is loaded here")
    for key in _IMPORTED:
        if settings.get(key):
            raise ModelError(
                f"{whose} names Python code to be imported ({key} in {ADAPTER_CONFIG}), which "
                "tunebook does not run; take that key out"
            )
    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise ModelError(
            f"{whose} has no {ADAPTER_WEIGHTS}; weights as pickle are not opened, for they can "
            "run code; save it as safetensors first"
        )


def read_settings(path: Path, whose: str) -> dict[str, Any]:
    """Read a JSON object of settings; ModelError names the file where it is none."""
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ModelError(f"{whose}: {path} is over 64 MiB, so it holds no settings")
        found = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ModelError(f"{whose}: {path} is nested too deeply to be settings") from None
    except (ValueError, OSError) as error:
        raise ModelError(f"{whose}: {path} cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise ModelError(f"{whose}: {path} holds no settings by name, so it is no config")
    return found


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
        odd = [n for n in names if isinstance(n, str) and not _is_own(n)]
        return f"{key} {odd[0][:60]!r}" if odd else None
    return None


def _is_own(name: str) -> bool:
    """Tell whether an implementation is one of transformers' own: kernels have a slash or more."""
    return bool(_ATTENTION.fullmatch(name)) or re.fullmatch(r"[a-z_]+", name) is not None


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


def _refuse_sizes(settings: dict[str, Any], folder: Path, whose: str) -> None:
    for key, value in _every_key(settings):
        # A length such as 10^30 as a float stands for none.
        if isinstance(value, bool) or not isinstance(value, int):
            continue
        most = _MOST_OF_MANY if _MANY.search(key) else _MOST
        if abs(value) > most:
            raise ModelError(
                f"{whose}: {key} is {str(value)[:24]} in {folder / 'config.json'}, and no model "
                f"has more than {most:,}; correct it, or use another model"
            )


def _refuse_outside(folder: Path, whose: str) -> None:
    try:
        names = read_settings(folder / INDEX, whose).get("weight_map")
    except ModelError:
        return  # a plan calls it incomplete, for no weight is found by it
    if not isinstance(names, dict):
        return
    for name in sorted({str(each) for each in names.values()}):
        if not re.fullmatch(r"[^/\\\0]+\.safetensors", name):
            raise ModelError(
                f"{whose}: {folder / INDEX} names {name[:80]!r}, which is no .safetensors file of "
                "this folder; fetch the model anew"
            )


def _refuse_links(folder: Path, whose: str) -> None:
    """Refuse a link out of a folder: what it leads to would be read, copied and released.

    The hub's cache keeps all files of a model as links to `blobs` beside its `snapshots`.
    """
    whole = folder.resolve()
    inside = [whole]
    if whole.parent.name == "snapshots":
        inside.append(whole.parent.parent / "blobs")
    try:
        links = [path for path in sorted(folder.iterdir()) if path.is_symlink()]
    except OSError as error:
        raise ModelError(f"{whose}: {folder} cannot be read: {error.strerror}") from None
    for link in links:
        try:
            leads = link.resolve()
        except (OSError, RuntimeError):  # it leads to itself
            leads = Path("/")
        if not any(leads.is_relative_to(place) for place in inside):
            raise ModelError(
                f"{whose}: {link} is a link out of its folder, to {leads}; put the file itself "
                "there, or name the folder that it lies in"
            )
