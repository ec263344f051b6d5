"""The most memory that a run will need, found by a rehearsal on tensors without data.

What a rehearsal cannot see is added by formulas, each of which is stated in the plan.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tunebook.allocator import ALLOCATOR, allocator_settings
from tunebook.errors import TunebookError
from tunebook.models.checkpointing import checkpoints_by_layer
from tunebook.models.layers import find_layers
from tunebook.plan.batch_shapes import Sizes
from tunebook.plan.devices import Device
from tunebook.plan.rehearsal import ADAPTERS, Peak, Rehearsal, Shape, has_like_layers
from tunebook.plan.result import Memory
from tunebook.recipe.tree import Recipe
from tunebook.step.forward import Scorer
from tunebook.units import format_bytes

_MIB = 1 << 20
# A CUDA process holds its context, kernels and library workspaces before the first tensor.
CUDA_CONTEXT = 640 * _MIB
# What the caching allocator rounds up and cannot reuse.
CUDA_ROUNDING = 0.04
# Threads, code pages and the scratch of matrix products that appear with the first step on a CPU.
CPU_SCRATCH = 100 * _MIB
# In half precision oneDNN keeps the code it made for a product of each new number of tokens: so
# much for each of a weight's three products and each step, until nearly all are there. Measured
# with GPT-2's shape and a tiny one alike, on AVX-512: 0.5 to 0.7 GiB after 40 to 80 steps.
_CODE_PER_STEP = 1 * _MIB
_CODE_AT_MOST = 40 * _MIB
# What the heap takes for each byte of tensors at their peak, with the allocator that training has:
# measured 1.23 to 1.57 with method full and 1.75 to 2.35 with an adapter (2.14 to 2.31 on 4 bits),
# whose many small tensors leave more holes. With any other allocator it was 1.03.
_HEAP = {"full": 1.4, "lora": 2.0, "qlora": 2.2, "relora": 2.0}
_PLAIN_HEAP = 1.03
# Of a model with more layers than the second, so many are rehearsed, the others taken to be alike.
_SHORT = (4, 8)
ACTIVATION_CACHE = "activation cache"
_WHOLE = ("weights", "gradients", "optimizer", "update")


@dataclass(frozen=True, slots=True)
class Setting:
    """What decides the memory of a run beside its batches.

    `checkpointing` is of activations: of all layers, of none, or of the first so many.
    `process_bytes` is what this process holds without any model (CPU), `scorer` what a loaded model
    was found to allow (None: assumed), `added_ids` tokens that only the config has rows for,
    `kept_tokens` those of the examples whose activations may be kept.
    """

    config: Any
    recipe: Recipe
    precision: str
    device: Device
    checkpointing: bool | int = False
    scorer: Scorer | None = None
    process_bytes: int = 0
    added_ids: tuple[int, ...] = ()
    kept_tokens: int = 0

    @property
    def room(self) -> int | None:
        """What a run can have: all of a device, or of one that is here what others leave."""
        total, free = self.device.total_bytes, self.device.free_bytes
        if total is None or free is None or not self.device.present:
            return total
        if self.device.kind == "cuda":
            return min(total, free)
        # The processes of several devices share the machine's memory.
        return min(total, free + self.process_bytes) // self.device.count


class MemoryPlanner:
    """Rehearses batches of one setting; the model is built once."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self._rehearsal = self._rehearse()
        self.parameters = self._rehearsal.parameters
        self.words = tuple(filter(None, (self._rehearsal.adapter_words, *self._rehearsal.notes)))
        self._trained: dict[tuple[Shape, ...], Peak] = {}
        self._short: list[Rehearsal] | None = None
        self._failed: str | None = None

    def _rehearse(self, layers: int | None = None) -> Rehearsal:
        setting = self.setting
        return Rehearsal(
            setting.config,
            setting.recipe,
            setting.precision,
            on_cuda=setting.device.kind == "cuda",
            checkpointing=setting.checkpointing,
            scorer=setting.scorer,
            layers=layers,
            added_ids=setting.added_ids,
            sharded=setting.device.count > 1 and setting.recipe.method == "full",
        )

    @property
    def layers_to_checkpoint(self) -> int:
        """How many layers can each be checkpointed or not; 0 where the model does all or none."""
        return self._rehearsal.n_layers if checkpoints_by_layer(self._rehearsal.causal) else 0

    @property
    def n_trainable_tensors(self) -> int:
        """How many tensors are trained."""
        return len(self._rehearsal.optimization.parameters)

    @property
    def copied_bytes(self) -> int:
        """What a copy of weights and optimizer takes on a CPU that writes it while it trains."""
        setting = self.setting
        copies = setting.recipe.checkpoint.asynchronous is True and setting.device.count == 1
        copies = copies and setting.recipe.method == "full" and setting.device.kind != "cuda"
        return self._rehearsal.at_rest if copies else 0

    @property
    def code_bytes(self) -> int:
        """What products on a CPU in half precision come to hold beside tensors, step by step."""
        setting = self.setting
        if setting.device.kind == "cuda" or setting.precision == "fp32":
            return 0
        weights = {p.shape for p in self._rehearsal.causal.parameters() if p.ndim == 2}
        steps = setting.recipe.train.max_steps or _CODE_AT_MOST
        return 3 * len(weights) * min(steps * _CODE_PER_STEP, _CODE_AT_MOST)

    @property
    def kept_bytes(self) -> int:
        """What activations that are kept for all epochs take, in memory or in a file."""
        below = self._rehearsal.scorer.below
        return 0 if below is None else self.setting.kept_tokens * below.bytes_per_token

    @property
    def eight_bit_bytes(self) -> int:
        """What averages in 8 bits take, 0 where the optimizer keeps none."""
        return self._rehearsal.eight_bit_bytes

    def train_peak(self, shape: Shape, *, accumulates: bool) -> Peak:
        """Give the peak of a step of this micro-batch, sharded where there are several devices.

        With accumulation the micro-batch comes second, when gradients of a first one are there.
        """
        shapes = _with_accumulation(shape, accumulates)
        if shapes not in self._trained:
            self._trained[shapes] = self._sharded(self._rehearsed(shapes))
        return self._trained[shapes]

    def _rehearsed(self, shapes: tuple[Shape, ...]) -> Peak:
        try:
            return self._on_all_layers(lambda model: model.train(shapes))
        except TunebookError:
            raise
        except Exception as error:  # an estimate must not stop a run that would train
            self._failed = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            # Adapters and optimizer are there; gradients are as large as what is trained.
            trained = self._rehearsal.optimization.masters.values()
            gradients = sum(p.numel() * 4 for p in trained)
            return Peak(
                self._rehearsal.at_rest + gradients,
                {"weights and optimizer": self._rehearsal.at_rest, "gradients": gradients},
            )

    def _scored(self, shape: Shape) -> Peak | None:
        try:
            return self._sharded(self._on_all_layers(lambda model: model.evaluate(shape)))
        except Exception:  # said where the training step was rehearsed
            return None

    @property
    def _is_long(self) -> bool:
        config = self.setting.config
        long = self._rehearsal.n_layers > _SHORT[1] and has_like_layers(config)
        # Where some layers are checkpointed the peak is now at one place, now at another.
        alike = isinstance(self.setting.checkpointing, bool) and self._rehearsal.learns_alike()
        return long and alike

    def _on_all_layers(self, rehearse: Callable[[Rehearsal], Peak]) -> Peak:
        """Rehearse all layers, or a few and take all others to add what one of these adds."""
        if not self._is_long:
            return rehearse(self._rehearsal)
        if self._short is None:
            self._short = [self._rehearse(n) for n in _SHORT]
        few, more = (rehearse(one) for one in self._short)
        times = self._rehearsal.n_layers - _SHORT[0]
        parts = {
            name: few.parts.get(name, 0)
            + (more.parts.get(name, 0) - few.parts.get(name, 0)) * times // (_SHORT[1] - _SHORT[0])
            for name in {**few.parts, **more.parts}
        }
        return Peak(sum(parts.values()), parts)

    def plan(self, sizes: Sizes, *, accumulates: bool) -> Memory:
        """Put the peaks of training, evaluation and generation together."""
        setting = self.setting
        longest = self.train_peak(sizes.longest, accumulates=accumulates)
        typical = self.train_peak(sizes.typical, accumulates=accumulates)
        evaluation = None
        if sizes.evaluation is not None:
            evaluation = self._scored(sizes.evaluation)
        generation = self._generation_bytes(sizes)
        peaks = [longest.n_bytes, evaluation.n_bytes if evaluation else 0, generation or 0]
        if setting.recipe.method == "relora":
            peaks.append(self._rehearsal.at_rest + 4 * self._largest_weight())
        peak = max(peaks)
        # One array that is there at every peak, and in which the heap has no holes.
        in_memory = setting.recipe.lora.cache_activations == "memory"
        kept = self.kept_bytes if in_memory and setting.device.kind != "cuda" else 0
        return Memory(
            train_peak_bytes=typical.n_bytes + kept,
            longest_batch_bytes=longest.n_bytes + kept,
            evaluation_peak_bytes=evaluation.n_bytes + kept if evaluation else None,
            generation_peak_bytes=None if generation is None else generation + kept,
            resident_bytes=self._with_rest(peak) + self.code_bytes + self.copied_bytes + kept,
            device_bytes=setting.room,
            parts={**longest.parts, **({ACTIVATION_CACHE: kept} if kept else {})},
            longest_batch={
                "tokens": sizes.longest.tokens,
                "examples": len(sizes.longest.lengths),
                "target_tokens": sum(sizes.longest.targets),
                "longest_example": max(sizes.longest.lengths),
                "typical_tokens": sizes.typical.tokens,
            },
            stated=tuple(self._stated(peak)),
        )

    def _stated(self, peak: int) -> list[str]:
        """Say what is no rehearsal but a formula or an assumption."""
        setting = self.setting
        stated = [
            "answers to prompts: keys and values of every layer for the longest prompt, one row of "
            "logits",
        ]
        if setting.recipe.method == "qlora":
            stated.append("4-bit weights: half a byte each and their scales, unpacked one by one")
        if self.eight_bit_bytes:
            stated.append(
                f"averages in 8 bits {format_bytes(self.eight_bit_bytes)}: 2 bytes a parameter and "
                "8 per 256 of them, or 8 bytes a parameter in tensors of less than 4,096"
            )
        if self.kept_bytes:
            where = "a file" if setting.recipe.lora.cache_activations == "disk" else "memory"
            if where == "memory" and setting.device.kind == "cuda":
                where = "the host's memory, which is not in this plan"
            stated.append(
                f"activation cache {format_bytes(self.kept_bytes)} in {where}: "
                f"{setting.kept_tokens:,} tokens of the different examples at "
                f"{self.kept_bytes // setting.kept_tokens:,} bytes"
            )
        if setting.recipe.method == "relora":
            stated.append("a merge computes the update of one weight at a time, in fp32")
        if setting.device.count > 1:
            stated.append(_sharding_words(setting))
        if self._failed is not None:
            stated.append(
                f"a step could not be rehearsed ({self._failed}), so activations are not in it"
            )
        if self._is_long:
            stated.append(
                f"{_SHORT[0]} and {_SHORT[1]} of {self._rehearsal.n_layers} layers were rehearsed, "
                "and the others taken to be like them"
            )
        if self.copied_bytes:
            stated.append(
                f"a copy of weights and optimizer {format_bytes(self.copied_bytes)}, written while "
                "training goes on"
            )
        if setting.scorer is None:
            stated.append("the model's fast paths are assumed to work; training checks them")
        if setting.device.kind == "cuda":
            stated.append(
                f"CUDA context and workspaces {format_bytes(CUDA_CONTEXT)}, allocator rounding "
                f"{CUDA_ROUNDING:.0%}: not measured on this device"
            )
        else:
            stated.append(
                f"the process itself {format_bytes(setting.process_bytes)}, threads and scratch "
                f"{format_bytes(CPU_SCRATCH)}, holes between tensors "
                f"{format_bytes(peak * (self._heap - 1))}: about, until it is tried out"
            )
        if self.code_bytes:
            stated.append(
                "code that products keep for rows of every length: "
                f"{format_bytes(self.code_bytes)}, as measured elsewhere"
            )
        return stated

    @property
    def _heap(self) -> float:
        fast = allocator_settings().get("GLIBC_TUNABLES") == ALLOCATOR
        return _HEAP[self.setting.recipe.method] if fast else _PLAIN_HEAP

    def _with_rest(self, peak: int) -> int:
        """Add to a peak what no tensor shows."""
        if self.setting.device.kind == "cuda":
            return CUDA_CONTEXT + round(peak * (1 + CUDA_ROUNDING))
        return self.setting.process_bytes + CPU_SCRATCH + round(peak * self._heap)

    def _generation_bytes(self, sizes: Sizes) -> int | None:
        config, causal = self.setting.config, self._rehearsal.causal
        if getattr(config, "num_attention_heads", None) is None:
            return None  # no keys and values to keep
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        width = getattr(config, "head_dim", None) or (
            config.hidden_size // config.num_attention_heads
        )
        element = next(causal.parameters()).element_size()
        if self.setting.recipe.method == "qlora":
            element = 2
        prompt = max((sizes.evaluation or sizes.longest).lengths)
        tokens = prompt + self.setting.recipe.evaluate.max_new_tokens
        cache = 2 * self._rehearsal.n_layers * heads * width * tokens * element
        rest = self._sharded(Peak(self._rehearsal.at_rest, {})).n_bytes
        return int(rest + cache + 4 * config.vocab_size)

    def _sharded(self, peak: Peak) -> Peak:
        """Spread a peak over the devices of the setting."""
        setting = self.setting
        n = setting.device.count
        if n == 1:
            return peak
        parts = dict(peak.parts)
        if setting.recipe.method in ADAPTERS:
            # DistributedDataParallel: everything on every device, and buckets of the gradients.
            parts["communication"] = sum(
                p.numel() * 4 for p in self._rehearsal.loaded.trainable().values()
            )
        else:
            whole = parts or {"weights": peak.n_bytes}
            parts = {k: v // n if k in _WHOLE else v for k, v in whole.items()}
            parts["communication"] = 2 * self._largest_layer() + self._outside_layers()
        return Peak(sum(parts.values()) if peak.parts else peak.n_bytes // n, parts)

    def _largest_weight(self) -> int:
        return max(int(p.numel()) for p in self._rehearsal.causal.parameters())

    def _largest_layer(self) -> int:
        layers = find_layers(self._rehearsal.causal)[1]
        return max((sum(p.nbytes for p in layer.parameters()) for layer in layers), default=0)

    def _outside_layers(self) -> int:
        within = {
            id(p) for layer in find_layers(self._rehearsal.causal)[1] for p in layer.parameters()
        }
        causal = self._rehearsal.causal
        return sum(p.nbytes for p in causal.parameters() if id(p) not in within)


def _with_accumulation(shape: Shape, accumulates: bool) -> tuple[Shape, ...]:
    return (Shape((2,), (1,)), shape) if accumulates else (shape,)


def _sharding_words(setting: Setting) -> str:
    n = setting.device.count
    if setting.recipe.method in ADAPTERS:
        return f"{n} devices: each holds everything, and buckets of the adapter's gradients"
    return (
        f"{n} devices: weights, gradients and optimizer fully sharded; two layers and what is "
        "outside of layers are whole at a time"
    )


def fits(memory: Memory, margin: float = 0.0) -> bool:
    """Tell whether a run fits its device with a margin; True when its memory is not known."""
    room = memory.device_bytes
    return room is None or memory.resident_bytes <= room * (1 - margin)
