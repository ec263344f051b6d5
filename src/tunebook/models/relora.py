"""An adapter that is added to the weights again and again, and begun anew (Lialin et al. 2023).

Each merge adds B @ A, scaled, to the weights it stands beside; the sum of updates of rank r grows
beyond r. Weights in bf16 would round most of such an update away, so what they would be without
rounding is kept in fp32, in the host's memory: the bf16 ones are its rounding, as with the masters
of whatever an optimizer moves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tunebook.errors import ModelError

APART = "optimizer_relora.safetensors"
"""In a checkpoint, whose weights are merged: weights and adapter apart, for a run to go on from."""
_ADAPTER = "default"


class Merger:
    """The adapted linear layers of a network, by name, with what merges need beside them.

    Raises ModelError for an adapter that cannot be merged without changing something else.
    """

    def __init__(self, network: Any, seed: int) -> None:
        self._seed = seed
        self._layers: dict[str, Any] = {}
        for name, module in network.named_modules():
            if not hasattr(module, "lora_A"):
                continue
            if _ADAPTER not in module.lora_A:
                raise ModelError(
                    f"method relora merges linear layers, and lora.target_modules names {name}; "
                    "leave it out, or say method: lora"
                )
            self._layers[name] = module
        _refuse_tied(network, self._layers)
        self._exact = {
            name: weight.detach().float().cpu()
            for name, weight in self._weights().items()
            if weight.dtype != torch.float32
        }

    def _weights(self) -> dict[str, torch.Tensor]:
        return {name: layer.get_base_layer().weight for name, layer in self._layers.items()}

    @property
    def exact(self) -> dict[str, torch.Tensor]:
        """What weights that are stored rounded would be without it, in fp32 on the host."""
        return self._exact

    @property
    def apart_bytes(self) -> int:
        """The size of what a checkpoint holds beside the merged weights."""
        adapters = sum(p.nbytes for layer in self._layers.values() for p in _matrices(layer))
        return adapters + sum(4 * weight.numel() for weight in self._weights().values())

    @torch.no_grad()
    def merge(self, step: int) -> None:
        """Add the adapter to the weights and begin a new one, drawn from (seed, step)."""
        text = f"tunebook relora {self._seed} {step}".encode()
        digest = hashlib.blake2b(text, digest_size=8).digest()
        torch.manual_seed(int.from_bytes(digest, "big") >> 1)
        for name, layer in self._layers.items():
            weight = layer.get_base_layer().weight
            if name in self._exact:
                self._exact[name].add_(_update(layer).cpu())
                weight.copy_(self._exact[name])
            else:
                weight.add_(_update(layer))
            layer.reset_lora_parameters(_ADAPTER, True)

    @contextmanager
    def merged(self, folder: Path) -> Iterator[None]:
        """Write weights and adapter apart into a folder, and have them merged meanwhile.

        The adapter stays, so the model computes nothing that is meant; afterwards every bit of the
        weights is what it was.
        """
        tensors = {}
        for name, weight in self._weights().items():
            tensors[f"{name}|weight"] = self._exact.get(name, weight).detach().cpu().contiguous()
            for key, matrix in zip("AB", _matrices(self._layers[name]), strict=True):
                tensors[f"{name}|{key}"] = matrix.detach().cpu().contiguous()
        save_file(tensors, folder / APART)
        del tensors
        try:
            with torch.no_grad():
                for name, weight in self._weights().items():
                    exact = self._exact.get(name, weight).to(weight.device)
                    weight.copy_(exact + _update(self._layers[name]))
            yield
        finally:
            self._read_weights(folder)

    def read(self, folder: Path) -> None:
        """Put weights and adapter of a checkpoint back, apart from each other."""
        self._read_weights(folder)
        with safe_open(folder / APART, "pt") as tensors, torch.no_grad():
            for name, layer in self._layers.items():
                for key, matrix in zip("AB", _matrices(layer), strict=True):
                    matrix.copy_(tensors.get_tensor(f"{name}|{key}"))

    @torch.no_grad()
    def _read_weights(self, folder: Path) -> None:
        with safe_open(folder / APART, "pt") as tensors:
            for name, weight in self._weights().items():
                kept = tensors.get_tensor(f"{name}|weight")
                weight.copy_(kept)
                if name in self._exact:
                    self._exact[name].copy_(kept)


def plain_state(causal: Any) -> dict[str, torch.Tensor]:
    """Give a model's weights under the names they have without an adapter, and without it."""
    return {
        name.replace(".base_layer.", "."): tensor
        for name, tensor in causal.state_dict().items()
        if ".lora_" not in name
    }


def _matrices(layer: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return layer.lora_A[_ADAPTER].weight, layer.lora_B[_ADAPTER].weight


def _update(layer: Any) -> torch.Tensor:
    """Give what an adapter adds to its weight, computed in fp32."""
    a_RI, b_OR = _matrices(layer)
    update_OI = (b_OR.float() @ a_RI.float()).mul_(layer.scaling[_ADAPTER])
    return update_OI.T if layer.fan_in_fan_out else update_OI


def _refuse_tied(network: Any, layers: dict[str, Any]) -> None:
    """A weight that two modules share would change in both, and the adapter is on one only."""
    weights = {id(layer.get_base_layer().weight): name for name, layer in layers.items()}
    owners: dict[int, int] = {}
    for module in network.modules():
        for parameter in module.parameters(recurse=False):
            owners[id(parameter)] = owners.get(id(parameter), 0) + 1
    for key, name in weights.items():
        if owners[key] > 1:
            raise ModelError(
                f"method relora cannot merge into {name}, whose weight another module shares; "
                "leave it out of lora.target_modules"
            )
