"""The layers below the first adapted one: their answers, made once per example and kept.

Where an adapter is in the last layers alone, the layers below answer the same for an example in
every epoch. Each example goes through them by itself, whether its answer is kept or made anew: a
row of a matrix product may depend on how many rows there are (here with MKL: below ten of them),
and an example meets others in every epoch. What it gets is thus a function of the example alone.

Shapes: N tokens of a flat row, T of one example, K of all that is kept, D width.
"""

from __future__ import annotations

import errno
import os
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from tunebook.errors import ModelError
from tunebook.models.layers import find_layers
from tunebook.recipe.tree import Recipe

Work = Callable[[slice], object]
"""Runs the model on some tokens of a row, those of one example."""

# Dropout of heads that a causal language model does not have.
_OF_OTHER_HEADS = ("summary_", "classifier_")


class Below:
    """The layers of a model below layer `first`, the lowest that learns; see `find_below`.

    `ended` says why activations are no longer kept, None while nothing is wrong with them.
    """

    def __init__(self, causal: Any, first: int) -> None:
        path, self._layers = find_layers(causal)
        self._list: nn.ModuleList = causal.get_submodule(path)
        self._network = causal
        self.first = first
        self.ended: str | None = None
        self._width = int(causal.config.get_text_config().hidden_size)
        self._dtype: torch.dtype = causal.get_input_embeddings().weight.dtype
        self._gives_tuple = False
        self._kept: _Kept | None = None
        self._compared: set[bool] = set()

    @property
    def bytes_per_token(self) -> int:
        """What is kept of a token."""
        return self._width * self._dtype.itemsize

    @property
    def kept_bytes(self) -> int:
        """What is kept so far."""
        return 0 if self._kept is None else self._kept.n_tokens * self.bytes_per_token

    def keep(self, n_tokens: int, folder: Path | None) -> None:
        """Keep the answers of examples of so many tokens from now on, in memory or a folder.

        The file in the folder has no name, so it ends with this process however that ends.
        """
        self._kept = _Kept(n_tokens, self._width, self._dtype, folder)

    @contextmanager
    def skipped(self, work: Work, ids_N: np.ndarray, lengths: Sequence[int]) -> Iterator[None]:
        """Let the model's forward begin at layer `first`, with what this row's examples enter it.

        `work` runs the model on one example of the row, where its answer is not kept.
        """
        hidden_1ND = self.hidden(work, ids_N, lengths)
        stand_ins = [_StandIn(layer, self._gives_tuple) for layer in self._layers[: self.first]]
        stand_ins[-1].answer = hidden_1ND
        with self._replaced(0, stand_ins):
            yield

    @torch.no_grad()
    def hidden(self, work: Work, ids_N: np.ndarray, lengths: Sequence[int]) -> torch.Tensor:
        """Give what enters layer `first`, (1, N, D), from what is kept or computed now.

        The first row with kept answers, in training and in scoring, is computed again: where a
        single bit differs, nothing is kept any more and `ended` says so.
        """
        stops = np.cumsum(lengths).tolist()
        examples = [slice(stop - n, stop) for stop, n in zip(stops, lengths, strict=True)]
        if self._kept is None:
            return torch.cat([self._computed(work, one) for one in examples], dim=1)
        training = bool(self._network.training)
        parts, compared = [], False
        for one in examples:
            key = blake2b(ids_N[one].tobytes(), digest_size=16).digest()
            part = self._kept.read(key, one.stop - one.start)
            if part is None:
                part = self._computed(work, one)
                self._kept.write(key, part)
            elif training not in self._compared:
                compared = True
                part = self._held_against(part, self._computed(work, one))
                if self._kept is None:
                    return self.hidden(work, ids_N, lengths)
            parts.append(part)
        if compared:
            self._compared.add(training)
        return torch.cat([part.to(self._device) for part in parts], dim=1)

    @property
    def _device(self) -> torch.device:
        device: torch.device = self._network.get_input_embeddings().weight.device
        return device

    def _held_against(self, kept: torch.Tensor, fresh: torch.Tensor) -> torch.Tensor:
        if not torch.equal(kept.to(fresh.device), fresh):
            self._kept = None
            self.ended = (
                "lora.cache_activations: an example that was computed again differs from what was "
                "kept of it, so nothing is kept any more and every epoch takes as long as the first"
            )
        return fresh

    def _computed(self, work: Work, example: slice) -> torch.Tensor:
        """Run the model's own forward on one example, and take what enters layer `first`."""
        stand_ins = [_StandIn(layer, self._gives_tuple) for layer in self._layers[self.first :]]

        def note(_layer: nn.Module, _inputs: object, output: object) -> None:
            self._gives_tuple = isinstance(output, tuple)
            for one in stand_ins:
                one.gives_tuple = self._gives_tuple

        hook = self._layers[0].register_forward_hook(note)
        try:
            with self._replaced(self.first, stand_ins):
                work(example)
        finally:
            hook.remove()
        found = stand_ins[0].entered
        shape = (1, example.stop - example.start, self._width)
        if found is None or tuple(found.shape) != shape or found.dtype != self._dtype:
            raise ModelError(
                "lora.cache_activations: the layers of this model do not hand one hidden state "
                "from each to the next; say lora.cache_activations: false"
            )
        return found

    @contextmanager
    def _replaced(self, start: int, stand_ins: Sequence[_StandIn]) -> Iterator[None]:
        try:
            for place, one in enumerate(stand_ins, start):
                self._list[place] = one
            yield
        finally:
            for place, _ in enumerate(stand_ins, start):
                self._list[place] = self._layers[place]


class _StandIn(nn.Module):
    """Takes a layer's place and hands on what it is given, or `answer` where there is one."""

    def __init__(self, layer: nn.Module, gives_tuple: bool) -> None:
        super().__init__()
        # Past nn.Module, which would register it; some models ask a layer what kind it is.
        self.__dict__["layer"] = layer
        self.gives_tuple = gives_tuple
        self.answer: torch.Tensor | None = None
        self.entered: torch.Tensor | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["layer"], name)

    def forward(self, hidden_states: torch.Tensor, *_args: Any, **_kwargs: Any) -> Any:
        self.entered = hidden_states
        given = hidden_states if self.answer is None else self.answer
        return (given,) if self.gives_tuple else given


class _Kept:
    """Hidden states by the tokens they are of, one after the other in one array or file."""

    def __init__(self, capacity: int, width: int, dtype: torch.dtype, folder: Path | None) -> None:
        self.n_tokens = 0
        self._capacity, self._width, self._dtype = capacity, width, dtype
        self._at: dict[bytes, int] = {}
        self._file: int | None = None
        if folder is not None:
            self._file, name = tempfile.mkstemp(dir=folder)
            os.unlink(name)
            weakref.finalize(self, os.close, self._file)
        # Pages that nothing was written to take no memory.
        self._rows_KD = torch.empty(0 if folder else capacity, width, dtype=dtype)

    def read(self, key: bytes, length: int) -> torch.Tensor | None:
        start = self._at.get(key)
        if start is None:
            return None
        if self._file is None:
            return self._rows_KD[start : start + length][None]
        rows_TD = torch.empty(length, self._width, dtype=self._dtype)
        # No mapping: its pages would count as this process's memory.
        os.preadv(self._file, [_bytes_of(rows_TD)], start * rows_TD[0].nbytes)
        return rows_TD[None]

    def write(self, key: bytes, hidden_1TD: torch.Tensor) -> None:
        start, stop = self.n_tokens, self.n_tokens + hidden_1TD.shape[1]
        if stop > self._capacity:
            return
        rows_TD = hidden_1TD[0].cpu().contiguous()
        if self._file is None:
            self._rows_KD[start:stop] = rows_TD
        elif not self._written(rows_TD, start):
            return
        self._at[key], self.n_tokens = start, stop

    def _written(self, rows_TD: torch.Tensor, start: int) -> bool:
        """Put rows into the file; a disk that is full takes none of them, or a part."""
        assert self._file is not None
        try:
            done = os.pwritev(self._file, [_bytes_of(rows_TD)], start * rows_TD[0].nbytes)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            return False
        return done == rows_TD.nbytes


def _bytes_of(rows_TD: torch.Tensor) -> memoryview:
    return memoryview(rows_TD.view(torch.uint8).numpy().data).cast("B")


def find_below(causal: Any, recipe: Recipe) -> Below | None:
    """Find what a recipe keeps the activations of, on a model with its adapter; None: nothing.

    Works on the meta device too. Raises ModelError where the layers below do not answer the same
    in every epoch, or there are none.
    """
    wanted = recipe.lora.cache_activations
    if not wanted:
        return None
    key, way_out = f"lora.cache_activations {wanted}", "say lora.cache_activations: false"
    layers = find_layers(causal)[1]
    number = {id(p): i for i, layer in enumerate(layers) for p in layer.parameters()}
    learns = {name: p for name, p in causal.named_parameters() if p.requires_grad}
    for name, parameter in learns.items():
        if id(parameter) not in number:
            raise ModelError(f"{key}: {name} learns and is in no layer; {way_out}")
    first = min(number[id(parameter)] for parameter in learns.values())
    if not first:
        raise ModelError(
            f"{key}: layer 0 is adapted, so every layer learns or stands on one that does; say "
            f"lora.layers: last:{max(1, len(layers) // 4)}, or {way_out}"
        )
    dropout = _dropout_in(causal, layers[first:])
    if dropout:
        raise ModelError(
            f"{key}: below the first adapted layer there is dropout ({', '.join(dropout)}), so "
            "what enters it is another at every step; set it to 0.0 in the model's config.json, or "
            f"{way_out}"
        )
    return Below(causal, first)


def _dropout_in(causal: nn.Module, above: Sequence[nn.Module]) -> list[str]:
    """Name the dropout of a model outside of some layers, as its config names it."""
    left_out = {id(module) for layer in above for module in layer.modules()}
    found = {
        f"{path}.{name}".lstrip("."): value
        for path, module in causal.named_modules()
        if id(module) not in left_out
        for name, value in {"p": getattr(module, "p", None), **vars(module)}.items()
        if isinstance(value, float) and value > 0
        if "drop" in name or isinstance(module, nn.Dropout)
    }
    named = {
        name: value
        for name, value in causal.config.get_text_config().to_dict().items()  # type: ignore[operator, union-attr]
        if "drop" in name and not name.startswith(_OF_OTHER_HEADS)
        if isinstance(value, float) and value > 0
    }
    return [f"{name} {value}" for name, value in ((named or found) if found else {}).items()]
