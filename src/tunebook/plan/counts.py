"""How many parameters a model has, and of what kind, read off its modules and not its name."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from tunebook.models.layers import find_layers, of_adapter
from tunebook.plan.result import Parameters

GROUPS = ("embeddings", "attention", "mlp", "norms", "head", "other")

# Parts of module paths, as the architectures in transformers name them.
_ATTENTION = re.compile(r"attn|attention", re.IGNORECASE)
_MLP = re.compile(r"mlp|ffn|^ff$|feed_?forward|^fc_?\d$|experts?$|moe|intermediate", re.IGNORECASE)
_LAYER = re.compile(r"\.(\d+)\.")


def count_parameters(network: Any, causal: Any, *, quantized: bool) -> Parameters:
    """Count a model's parameters exactly; a tied weight counts once, adapters apart.

    `network` is what learns and `causal` the model inside it; they differ when an adapter wraps it.
    Works on a skeleton as well as on real weights that are not quantized yet. `packed` is what a
    count over 4-bit weights says that hold two values per byte: of each linear layer but the head,
    half the weight, rounded up.
    """
    head = _head(causal)
    groups = Counter(dict.fromkeys(GROUPS, 0))
    packed = 0
    for path, module, name, parameter in _base_parameters(causal):
        groups[_group(path, module, module in head)] += parameter.numel()
        packs = name == "weight" and isinstance(module, (nn.Linear, Conv1D)) and module not in head
        packed += (parameter.numel() + 1) // 2 if packs else parameter.numel()
    total = sum(groups.values())
    adapted = [_adapted(m) for m in network.modules() if hasattr(m, "lora_A")]
    elsewhere = {id(p) for _, m, _, p in _base_parameters(causal) if m not in head}
    tied = sum(p.numel() for m in head for p in m.parameters(False) if id(p) in elsewhere)
    return Parameters(
        total=total,
        total_untied=total + tied,
        trainable=sum(p.numel() for p in network.parameters() if p.requires_grad),
        adapter=sum(p.numel() for n, p in network.named_parameters() if of_adapter(n)),
        groups=dict(groups),
        packed=packed if quantized else None,
        adapted=sum(weight.numel() for weight in adapted),
        adapted_width=max((min(weight.shape[-2:]) for weight in adapted), default=0),
        through=_share_from_lowest(network, causal),
    )


def _share_from_lowest(network: Any, causal: Any) -> float:
    """Give the share of layers that a gradient goes through to the lowest weight that learns."""
    layers = find_layers(causal)[1]
    of_layer = {id(p): n for n, layer in enumerate(layers) for p in layer.parameters()}
    embeddings = {id(p) for p in causal.get_input_embeddings().parameters()}
    learns = [id(p) for p in network.parameters() if p.requires_grad]
    # Norms and the head stand above all layers; what is in no layer else may stand below.
    head = {id(p) for module in _head(causal) for p in module.parameters()} - embeddings
    lowest = [of_layer.get(p, len(layers) if p in head else 0) for p in learns]
    return 1.0 if not layers or not lowest else 1 - min(lowest) / len(layers)


def _adapted(module: Any) -> Tensor:
    """Give the weight below an adapter; experts have one parameter for all of them."""
    weight: Tensor = (
        module.get_param() if hasattr(module, "get_param") else module.base_layer.weight
    )
    return weight


def adapter_words(network: Any) -> str | None:
    """Say how an adapter's parameters lie over the layers, as `24 layers x 262,144`.

    Layers that differ are told by their range; what lies outside of layers is told apart. None
    without an adapter.
    """
    layers: Counter[int] = Counter()
    outside = 0
    for name, parameter in network.named_parameters():
        if not of_adapter(name):
            continue
        if (found := _LAYER.search(name)) is None:
            outside += parameter.numel()
        else:
            layers[int(found[1])] += parameter.numel()
    least, most = min(layers.values(), default=0), max(layers.values(), default=0)
    each = f"{most:,}" if least == most else f"{least:,} to {most:,}"
    words = [f"{len(layers)} layer{'s' * (len(layers) != 1)} x {each}"] if layers else []
    words += [f"{outside:,} outside of layers"] if outside else []
    return " + ".join(words) or None


def _head(causal: Any) -> set[nn.Module]:
    head = causal.get_output_embeddings()
    return set() if head is None else set(head.modules())


def _base_parameters(causal: Any) -> Iterator[tuple[str, nn.Module, str, nn.Parameter]]:
    """Give (path, module, name, parameter) of each weight that is no adapter's, each once.

    The head comes last, so that a tied weight is met as what it is tied to.
    """
    head, seen = _head(causal), set()
    modules = sorted(causal.named_modules(), key=lambda named: named[1] in head)
    for path, module in modules:
        for name, parameter in module.named_parameters(recurse=False):
            if not of_adapter(f"{path}.{name}") and id(parameter) not in seen:
                seen.add(id(parameter))
                yield path, module, name, parameter


def _group(path: str, module: nn.Module, in_head: bool) -> str:
    if in_head:
        return "head"
    parts = [part for part in reversed(path.split(".")) if part != "base_layer"]
    if "norm" in type(module).__name__.lower() or "norm" in parts[0].lower():
        return "norms"
    for part in parts:
        if _ATTENTION.search(part):
            return "attention"
        if _MLP.search(part):
            return "mlp"
    return "embeddings" if isinstance(module, nn.Embedding) else "other"
