"""A model's config without what is not followed here: its own code, kernels, a bad pad token."""

from __future__ import annotations

import copy
from typing import Any


def plain_config(config: Any) -> Any:
    """Copy a config, for a model to be built with transformers' own classes and attention.

    What it says of attention and experts is how somebody's machine computed, and might fetch a
    kernel to be run or ask for a library that is not here; None leaves it to transformers. Without
    `auto_map` nothing asks for the model's own code, nor is it named in what is saved. No module
    can be built with a pad token that has no embedding, and a plan has to say what is wrong.
    Nothing is padded here.
    """
    config = copy.deepcopy(config)
    # These set those of the configs within it too.
    config._attn_implementation = None
    config._experts_implementation = None
    if hasattr(config, "auto_map"):
        del config.auto_map
    text = config.get_text_config()
    pad, size = getattr(text, "pad_token_id", None), getattr(text, "vocab_size", None)
    if isinstance(pad, int) and isinstance(size, int) and pad >= size:
        text.pad_token_id = None
    return config


def own_code_note(config: Any) -> tuple[str, ...]:
    """Say of a config that names code of the model's own that it is left out; else nothing."""
    if not getattr(config, "auto_map", None):
        return ()
    return (
        "the model brings Python code of its own, which is not run: transformers has its "
        f"architecture ({config.model_type}), and that is taken",
    )
