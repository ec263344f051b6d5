"""Where a model keeps its layers, and which of them a run file names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D

from tunebook.errors import ModelError


def of_adapter(name: str) -> bool:
    """Tell by its name whether a parameter is an adapter's, and none of the model's own."""
    return "lora_" in name or "trainable_tokens_" in name


def find_layers(causal: Any) -> tuple[str, list[nn.Module]]:
    """Give the path of a model's list of layers, such as `model.layers`, and the layers in it.

    It is the outermost list as long as its config says, else the longest list of modules there is.
    Empty where there is none.
    """
    lists = {p: list(m) for p, m in causal.named_modules() if isinstance(m, nn.ModuleList)}
    wanted = getattr(causal.config.get_text_config(), "num_hidden_layers", None)
    fitting = {path: layers for path, layers in lists.items() if len(layers) == wanted} or lists
    path = max(fitting, key=lambda p: (len(fitting[p]), -p.count(".")), default="")
    return path, fitting.get(path, [])


def layer_numbers(key: str, wanted: str | list[int], n_layers: int) -> list[int]:
    """Give the layers that `last:N` or a list names, in order.

    Raises ModelError, with the value of `key`, for layers that the model does not have.
    """
    if isinstance(wanted, str):
        n_last = int(wanted.partition(":")[2])
        if n_last <= n_layers:
            return list(range(n_layers - n_last, n_layers))
    elif max(wanted) < n_layers:
        return sorted(set(wanted))
    raise _no_such_layer(key, wanted, n_layers)


def linear_names(layers: Sequence[nn.Module]) -> list[str]:
    """Give the paths of linear modules within their layers, such as `mlp.up_proj`."""
    linear = (nn.Linear, Conv1D)
    modules = (named for layer in layers for named in layer.named_modules())
    return sorted({path for path, module in modules if isinstance(module, linear)})


def freeze_modules(
    causal: Any, names: Sequence[str], added_ids: Sequence[int] = ()
) -> tuple[str, ...]:
    """Keep modules of a model from learning; gives what else that means, one sentence each.

    A name is a module's path, the end of one (`embed_tokens`), a pattern of either (`*norm*`), or
    layers counted from 0 (`layers:0-5`). Raises ModelError for a name that no module has, or that
    leaves nothing to train, or new tokens (`added_ids`) without an embedding of their own.
    """
    if not names:
        return ()
    for name in names:
        parameters = [p for module in _named(causal, name) for p in module.parameters()]
        if not parameters:
            raise ModelError(f"`freeze` names {name!r}, which has no weights; leave it out")
        for parameter in parameters:
            parameter.requires_grad_(False)
    if not any(p.requires_grad for p in causal.parameters()):
        raise ModelError(f"`freeze: {list(names)}` leaves nothing to train; name fewer modules")
    if added_ids and not causal.get_input_embeddings().weight.requires_grad:
        raise ModelError(
            f"`freeze: {list(names)}` keeps the embeddings of `add_tokens` from learning; leave "
            "one of the two out"
        )
    embedding, head = causal.get_input_embeddings(), causal.get_output_embeddings()
    if head is None or head.weight is not embedding.weight or head.weight.requires_grad:
        return ()
    return ("freeze: the head is the embedding's own weight here, so both are frozen",)


def nearest_module(causal: Any, name: str) -> str:
    """Suggest the module that was meant by a name, or list those that there are."""
    paths = [path for path, _ in causal.named_modules() if path]
    ends = dict.fromkeys(path.rpartition(".")[2] for path in paths)
    known = [end for end in ends if not end.isdigit()]
    near = difflib.get_close_matches(name, [*known, *paths], n=1)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(known[:20])}"


def _named(causal: Any, name: str) -> list[nn.Module]:
    found = re.fullmatch(r"layers:(\d+)(?:-(\d+))?", name)
    if found:
        layers = find_layers(causal)[1]
        first, last = int(found[1]), int(found[2] or found[1])
        if not first <= last < len(layers):
            raise _no_such_layer("freeze", name, len(layers))
        return layers[first : last + 1]
    modules = {path: module for path, module in causal.named_modules() if path}
    wanted = [path for path in modules if any(fnmatchcase(path, n) for n in (name, f"*.{name}"))]
    if not wanted:
        raise ModelError(
            f"`freeze` names {name!r}, which no module of the model is; "
            f"{nearest_module(causal, name)}"
        )
    return [modules[path] for path in wanted]


def _no_such_layer(key: str, wanted: object, n_layers: int) -> ModelError:
    return ModelError(
        f"`{key}` is {wanted!r}, and the model has {n_layers} layers, 0 to {n_layers - 1}; name "
        "some of these"
    )
