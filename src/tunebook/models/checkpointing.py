"""Which layers keep what they make for the backward pass, and which make it again."""

from __future__ import annotations

from typing import Any

from tunebook.models.layers import find_layers


def set_checkpointing(causal: Any, layers: bool | int = True) -> None:
    """Keep only what enters each layer; what it made is computed again in the backward pass.

    With a number that is so of the first so many layers: those whose turn comes last, when the
    others have let go of what they kept.
    """
    # Newer transformers have it under this name, and the older one warns there.
    enable = getattr(causal, "activation_checkpointing_enable", None)
    if enable is None:
        causal.gradient_checkpointing_enable({"use_reentrant": False})
    else:
        enable({"use_reentrant": False})
    # For reentrant checkpoints: without, no gradient goes through layers that learn nothing.
    if hasattr(causal, "_require_grads_hook"):
        causal.disable_input_require_grads()
    if layers is not True:
        others: list[Any] = find_layers(causal)[1][layers:]
        for layer in others:
            layer.gradient_checkpointing = False


def checkpoints_by_layer(causal: Any) -> bool:
    """Tell whether each layer decides about checkpointing by itself."""
    layers = find_layers(causal)[1]
    return bool(layers) and all(hasattr(layer, "gradient_checkpointing") for layer in layers)
