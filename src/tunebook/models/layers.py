"""Where a model keeps its layers, and which of them a run file names."""

from __future__ import annotations

from typing import Any

from torch import nn

from tunebook.errors import ModelError


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
    raise ModelError(
        f"`{key}` is {wanted!r}, and the model has {n_layers} layers, 0 to {n_layers - 1}; name "
        "some of these"
    )
