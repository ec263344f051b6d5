"""Go through a training step on tensors without data, counting what would be alive.

The step is the very one of training; only the tensors are fake (FakeTensorMode of torch), so a
model of any size is rehearsed in seconds on any machine.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from tunebook.data.batches import MicroBatch
from tunebook.models.attention import FLAT, own_attention, register_flat_attention
from tunebook.models.checkpointing import set_checkpointing
from tunebook.models.fast_modules import use_fast_modules
from tunebook.models.layers import find_layers, freeze_modules
from tunebook.models.load import LoadedModel, quieten_transformers
from tunebook.models.packed import pack_linear_layers
from tunebook.models.plain_config import own_code_note
from tunebook.models.quantize import eight_bit_bytes
from tunebook.models.relora import Merger
from tunebook.models.skeleton import add_lora_to_skeleton, build_skeleton
from tunebook.plan.counts import adapter_words, count_parameters
from tunebook.plan.live import LiveBytes
from tunebook.recipe.tree import Recipe
from tunebook.step.below import find_below
from tunebook.step.forward import Scorer, token_losses
from tunebook.step.movement import WeightSample
from tunebook.step.optimization import Optimization
from tunebook.step.update import back_propagate

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# What a config says when something stands between the hidden states and the loss, so that the loss
# is taken from whole logits.
_BETWEEN = ("final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier")
_SOME_LAYERS = ("first_k_dense_replace", "mlp_only_layers", "max_window_layers")
_ATTENTION_DROPOUT = ("attention_dropout", "attn_pdrop", "attention_probs_dropout_prob")
ADAPTERS = ("lora", "qlora", "relora")


@dataclass(frozen=True, slots=True)
class Shape:
    """A micro-batch by its sizes: the tokens of each example and how many of them carry loss."""

    lengths: tuple[int, ...]
    targets: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """The tokens of all examples."""
        return sum(self.lengths)

    def batch(self) -> MicroBatch:
        """Lay out a micro-batch of this shape; the last tokens of each example carry loss."""
        positions = np.concatenate([np.arange(n, dtype=np.int64) for n in self.lengths])
        target = np.concatenate(
            [np.arange(n) >= n - t for n, t in zip(self.lengths, self.targets, strict=True)]
        )
        names = tuple(str(i) for i in range(len(self.lengths)))
        return MicroBatch(
            ids=np.zeros(len(positions), dtype=np.int64),
            positions=positions,
            target=target & (positions > 0),
            segment=np.repeat(np.arange(len(self.lengths)), self.lengths),
            lengths=self.lengths,
            example_ids=names,
            sources=names,
        )


@dataclass(frozen=True, slots=True)
class Peak:
    """The most bytes that were alive, and what they were made of."""

    n_bytes: int
    parts: dict[str, int]


class Rehearsal:
    """A model with its optimizer as training builds them, of fake tensors.

    `layers` builds so many of its layers only; `added_ids` are tokens that the config has rows for
    and the model's files have not; `sharded` says that several devices hold the weights. Raises
    ModelError for configs that cannot be built.
    """

    def __init__(
        self,
        config: Any,
        recipe: Recipe,
        precision: str,
        *,
        on_cuda: bool,
        checkpointing: bool | int = False,
        scorer: Scorer | None = None,
        layers: int | None = None,
        added_ids: Sequence[int] = (),
        sharded: bool = False,
    ) -> None:
        self._recipe, self._sharded = recipe, sharded
        config = copy.deepcopy(config)
        if layers is not None:
            _shorten(config, layers)
        if on_cuda and recipe.attention != "eager" and not recipe.lora.cache_activations:
            # The kernels of a GPU keep no attention matrix for dropout, those of a CPU do.
            for name in _ATTENTION_DROPOUT:
                if hasattr(config, name):
                    setattr(config, name, 0.0)
        register_flat_attention()
        causal = build_skeleton(config).to(_DTYPES[precision])
        flat = _attend(causal, recipe.attention)
        # Here and not at the first micro-batch: which modules they fit is found with real numbers.
        if scorer is None or scorer.fast:
            use_fast_modules(causal)
        frozen = freeze_modules(causal, recipe.freeze, added_ids)
        self.notes = (*own_code_note(config), *frozen)
        adapted = recipe.method in ADAPTERS
        network = add_lora_to_skeleton(causal, recipe.lora, added_ids) if adapted else causal
        self.network, self.causal = network, causal
        # Counted before packing, which leaves bytes in the place of weights.
        self.parameters = count_parameters(network, causal, quantized=recipe.method == "qlora")
        self.adapter_words = adapter_words(network)
        if recipe.method == "qlora":
            pack_linear_layers(causal, double=recipe.quantization.double)
        if checkpointing:
            set_checkpointing(self.causal, checkpointing)
        direct = all(getattr(config, name, None) in (None, 1, 1.0) for name in _BETWEEN)
        scorer = scorer or Scorer(flat=flat, direct_head=direct)
        below = find_below(causal, recipe) if adapted else None
        self.scorer = replace(scorer, below=below, varlen=on_cuda and flat)
        self.n_layers = int(config.num_hidden_layers)
        self._mode = FakeTensorMode()
        self.live = LiveBytes(int(config.vocab_size))
        with self._mode, self.live:
            _give_fake_weights(self.network, self.live)
            length = getattr(config, "max_position_embeddings", None)
            self.loaded = LoadedModel(self.network, self.causal, Path(), flat, length)
            if recipe.method == "relora" and not on_cuda:
                # What bf16 weights are the rounding of; of a GPU's the host has it.
                with self.live.labelled("weights"):
                    self._merger = Merger(self.network, recipe.seed)
            self.optimization = self._optimize(recipe)
            self._sample = WeightSample(self.optimization.masters)
        self.at_rest = self.live.now

    def learns_alike(self) -> bool:
        """Tell whether every layer learns as every other, and a shorter model can stand for it."""
        recipe = self._recipe
        if any(name.startswith("layers:") for name in recipe.freeze):
            return False
        if recipe.method in ADAPTERS and recipe.lora.layers != "all":
            return False
        kinds = [
            [(p.shape, p.requires_grad) for p in layer.parameters()]
            for layer in find_layers(self.causal)[1]
        ]
        return all(kind == kinds[0] for kind in kinds)

    def _optimize(self, recipe: Recipe) -> Optimization:
        """Make the optimizer and its state, which its first update makes."""
        trainable, train = self.loaded.trainable(), recipe.train
        self.eight_bit_bytes = 0
        if train.optimizer == "adamw_8bit":
            # A plan does without bitsandbytes, which updates in place as SGD does.
            train = train.model_copy(update={"optimizer": "sgd", "momentum": 0.0})
            self.eight_bit_bytes = sum(eight_bit_bytes(p.numel()) for p in trainable.values())
        with self.live.labelled("optimizer"):
            made = Optimization(trainable, train)
            self._averages = torch.empty(self.eight_bit_bytes, dtype=torch.uint8)
        for master in made.masters.values():
            master.grad = torch.empty_like(master)
        with self.live.labelled("optimizer"):
            made.apply(recipe.train.learning_rate, 1.0)
        made.clear_gradients()
        for name, parameter in trainable.items():
            # Runs after the hook of Optimization, which moves the gradient to the master.
            master = made.masters[name]
            parameter.register_post_accumulate_grad_hook(
                lambda _, master=master: self._is_gradient(master)
            )
        return made

    def _is_gradient(self, parameter: torch.Tensor) -> None:
        if parameter.grad is not None:
            self.live.relabel(parameter.grad, "gradients")

    def train(self, shapes: Sequence[Shape]) -> Peak:
        """Give the peak of a step over micro-batches, its update included."""
        with self._measured():
            batches = [shape.batch() for shape in shapes]
            targets = sum(int(batch.target.sum()) for batch in batches)
            losses = back_propagate(
                self.loaded,
                self.scorer
                if self._sharded
                else replace(self.scorer, homes=self.optimization.homes),
                batches,
                target_tokens=targets,
                seed=0,
                step=1,
            )
            for master in self.optimization.masters.values():
                self._is_gradient(master)
            self.optimization.grad_norm()
            before = self._sample.take()
            with self.live.labelled("update"):
                self.optimization.apply(1e-4, 0.5)
            self.optimization.clear_gradients()
            self._sample.compare(before, self._sample.take())
            del losses
        return self._peak()

    def evaluate(self, shape: Shape) -> Peak:
        """Give the peak of scoring a batch between two steps."""
        with self._measured(), torch.no_grad():
            self.network.eval()
            token_losses(self.loaded, self.scorer, shape.batch())
        return self._peak()

    @contextmanager
    def _measured(self) -> Iterator[None]:
        with self._mode, self.live:
            self.live.begin()
            # A fake tensor takes no seed from the machine's generator.
            with torch.random.fork_rng(devices=[]):
                yield

    def _peak(self) -> Peak:
        parts = {name: n for name, n in self.live.at_peak.items() if n}
        return Peak(self.live.peak, parts)


def _attend(causal: Any, attention: str) -> bool:
    """Set the attention that training will find to work; True where rows are laid end to end."""
    quieten_transformers()
    if attention == "auto" and not getattr(causal.config, "attn_logit_softcapping", None):
        causal.set_attn_implementation(FLAT)
        # A model with attention code of its own keeps it, and takes documents one by one.
        return bool(causal.config._attn_implementation == FLAT)
    causal.set_attn_implementation(own_attention(causal) if attention == "auto" else attention)
    return False


def has_like_layers(config: Any) -> bool:
    """Tell whether all layers of a model are of one kind, as far as its config says."""
    lists = _by_layer(config).values()
    return all(entry == values[0] for values in lists for entry in values) and not any(
        getattr(config, name, None) for name in _SOME_LAYERS
    )


def _shorten(config: Any, layers: int) -> None:
    for name, values in _by_layer(config).items():
        setattr(config, name, values[:layers])
    config.num_hidden_layers = layers


def _by_layer(config: Any) -> dict[str, list[Any]]:
    """Give what a config says layer by layer."""
    n = config.num_hidden_layers
    found = {k: getattr(config, k, None) for k in config.to_dict()}
    return {k: v for k, v in found.items() if isinstance(v, list) and len(v) == n and n > 1}


def _give_fake_weights(network: Any, live: LiveBytes) -> None:
    """Put a fake tensor of the same shape and type in the place of every meta tensor."""
    made: dict[int, torch.nn.Parameter] = {}
    for module in network.modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is None:
                continue
            if id(parameter) not in made:
                adapter = parameter.requires_grad and network is not module and "lora_" in name
                with live.labelled("adapter" if adapter else "weights"):
                    data = torch.empty(parameter.shape, dtype=parameter.dtype, device="cpu")
                # The meta tensor is kept so that no other takes its id.
                made[id(parameter)] = torch.nn.Parameter(data, parameter.requires_grad)
                made[id(parameter)].meta = parameter  # type: ignore[attr-defined]
            module._parameters[name] = made[id(parameter)]
        for name, buffer in list(module._buffers.items()):
            if buffer is not None:
                with live.labelled("weights"):
                    module._buffers[name] = torch.empty(
                        buffer.shape, dtype=buffer.dtype, device="cpu"
                    )
