"""Settings of a tokenizer by which transformers would read a file that is not the model's.

What such a file holds becomes the vocabulary, which is written into all that is made of the model.

Checked in transformers 5.5, 5.17 and 5.23: every key of special_tokens_map.json goes to the
tokenizer's class as it stands. Of tokenizer_config.json `vocab`, `merges` and `init_inputs` do, and
a key such as `vocab_file` does where the class has none of that name. A path is opened as it is
written, from the folder that a command is called in.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tunebook.errors import ModelError
from tunebook.units import shorten

_CONFIG = "tokenizer_config.json"
# A text stands for a path here; a vocabulary that is written out is the model's own.
_PATHS = ("vocab", "merges", "tokenizer_object", "gguf_file")
# transformers sets these itself; authors' machines wrote them with paths of their own.
_NEVER_OBEYED = (
    "special_tokens_map_file",
    "tokenizer_config_file",
    "added_tokens_file",
    "chat_template_file",
)
# The first seen here that takes tokenizer.json of the folder whatever this file says.
_SETS_TOKENIZER_FILE = (5, 17)


def refuse_named_files(settings: Mapping[str, Any], name: str, folder: Path, whose: str) -> None:
    """Raise ModelError for a setting that names a file outside of the model's folder.

    `name` is the file that the settings are of. In tokenizer_config.json, a path where nothing is,
    as from its author's machine, is let be.
    """
    for key, value in settings.items():
        for path in _paths_in(key, value, name, folder):
            raise ModelError(
                f"{whose}: {key} in {folder / name} names {shorten(path)!r}, a file that is not "
                "the model's, and what it holds would go into all that is made of the model; take "
                "that key out"
            )


def refuse_other_config(config: Mapping[str, Any], whose: str) -> None:
    """Raise ModelError for a config in whose place transformers would read another, unseen one."""
    if config.get("configuration_files"):
        raise ModelError(
            f"{whose}: configuration_files in config.json names other settings, and only "
            "config.json is looked at; take that key out, or put the file that it names in the "
            "place of config.json"
        )


def refuse_other_weights(config: Mapping[str, Any], looked_at: tuple[str, ...], whose: str) -> None:
    """Raise ModelError for a config by which other weights are loaded than those `looked_at`."""
    named = config.get("transformers_weights")
    if named is not None and named not in looked_at:
        raise ModelError(
            f"{whose}: transformers_weights in config.json names {shorten(str(named))!r}, and the "
            f"weights are taken from {' or '.join(looked_at)} alone; take that key out"
        )


def _paths_in(key: str, value: object, name: str, folder: Path) -> Iterator[str]:
    if key == "init_inputs":
        yield from _texts(value)
    elif key in _PATHS:
        yield from [value] if isinstance(value, str) and value else []
    elif key.endswith(("_file", "_files")) and key != "fast_tokenizer_files":
        if name != _CONFIG:
            yield from _texts(value)
        elif key not in _NEVER_OBEYED and not (key == "tokenizer_file" and _sets_it()):
            yield from (path for path in _texts(value) if _is_elsewhere(path, folder))


def _texts(value: object) -> Iterator[str]:
    """Yield every text in a value, however deep; not by recursion."""
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, str) and one:
            yield one
        elif isinstance(one, dict):
            left.extend(one.values())
        elif isinstance(one, list):
            left.extend(one)


def _sets_it() -> bool:
    major, minor = version("transformers").split(".")[:2]
    return (int(major), int(minor)) >= _SETS_TOKENIZER_FILE


def _is_elsewhere(path: str, folder: Path) -> bool:
    """Tell whether a path, as it would be opened, leads to something that is not in the folder."""
    if not os.path.exists(path):  # nor is a path that no system has, with a NUL in it
        return False
    home = os.path.realpath(folder)
    within = os.path.realpath(os.path.dirname(path) or ".")
    return within != home and not within.startswith(home + os.sep)
