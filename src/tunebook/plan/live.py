"""Count the bytes of tensors that are alive, as they are made and freed."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

WORKING = "activations"
LOGITS = "logits and loss"


class LiveBytes(TorchDispatchMode):
    """Adds up storages of tensors while it is entered; works on tensors with and without data.

    A storage counts from the operation that returned it to its last reference. `peak` is the most
    there was since `begin`, `at_peak` what it was made of.
    """

    def __init__(self, vocab_size: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self.at_peak: Mapping[str, int] = {}
        self._label = WORKING
        self._vocab_size = vocab_size
        self._by_label: dict[str, int] = {}
        self._known: dict[int, tuple[int, str]] = {}

    def begin(self) -> None:
        """Forget the peak, and count anew from what is alive."""
        self._reach(force=True)

    @contextmanager
    def labelled(self, label: str) -> Iterator[None]:
        """Count what is made meanwhile under a name."""
        before, self._label = self._label, label
        try:
            yield
        finally:
            self._label = before

    def relabel(self, tensor: torch.Tensor, label: str) -> None:
        """Count a tensor's storage under another name from now on."""
        found = self._known.get(tensor.untyped_storage()._cdata)
        if found is not None:
            n_bytes, old = found
            self._known[tensor.untyped_storage()._cdata] = (n_bytes, label)
            self._by_label[old] -= n_bytes
            self._by_label[label] = self._by_label.get(label, 0) + n_bytes

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func is torch.ops.prim.device.default:
            return args[0].device  # two of three calls, and much faster than by way of the mode
        if func is torch.ops.aten._grouped_mm.default:
            out = _grouped_product(*args, **(kwargs or {}))
        else:
            out = func(*args, **(kwargs or {}))
        for value in tree_iter(out):
            if isinstance(value, torch.Tensor):
                self._take(value)
        return out

    def _take(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        label = self._label
        if label == WORKING and tensor.ndim and tensor.shape[-1] == self._vocab_size:
            label = LOGITS
        n_bytes = storage.nbytes()
        self._known[key] = (n_bytes, label)
        self.now += n_bytes
        self._by_label[label] = self._by_label.get(label, 0) + n_bytes
        self._reach()
        weakref.finalize(storage, self._free, key)

    def _free(self, key: int) -> None:
        n_bytes, label = self._known.pop(key)
        self.now -= n_bytes
        self._by_label[label] -= n_bytes

    def _reach(self, *, force: bool = False) -> None:
        if force or self.now > self.peak:
            self.peak, self.at_peak = self.now, dict(self._by_label)


def _grouped_product(
    left: torch.Tensor,
    right: torch.Tensor,
    offs: torch.Tensor | None = None,
    *_args: Any,
    **_kwargs: Any,
) -> torch.Tensor:
    """Make what the products of a mixture of experts take.

    torch's own rule for tensors without data refuses fp32, which its kernels do compute.
    """
    n_groups = offs.numel() if offs is not None else 1
    if left.ndim == 2 and right.ndim == 2:
        return left.new_empty(n_groups, left.shape[0], right.shape[1])
    return left.new_empty(*left.shape[:-1], right.shape[-1])
