"""What the notebooks' own programs held in memory, term by term.

These are the layouts of early 2023 and not ours: whole logits, eager attention that keeps every
score, and a Trainer that leaves gradients in place. They explain what the authors saw, and stand
beside what `tunebook plan` prints for this project's own step.
"""

from __future__ import annotations

from dataclasses import dataclass

GIB = 2**30
FP32 = 4
BF16 = 2

# What CUDA itself took on a device before the first tensor, when PyTorch 1.x loaded all its
# kernels at the start. It belongs to what a device shows, not to what tensors need.
CONTEXT_BYTES = (1.0 * GIB, 1.5 * GIB)

# A 24 GB card has this much for programs.
A10_BYTES = 22.5 * GIB


@dataclass(frozen=True)
class Shape:
    """A decoder as OPT has it: four square matrices for attention, two 4 times as wide after it."""

    vocabulary: int
    layers: int
    width: int
    heads: int
    parameters: int


GALACTICA_125M = Shape(50_000, layers=12, width=768, heads=12, parameters=125_030_400)


def adamw_fp32_bytes(shape: Shape) -> float:
    """Weights, gradients and AdamW's two moments, all in fp32.

    Gradients stay between steps: `zero_grad` then filled them with zeros instead of freeing them.
    """
    weights = gradients = first_moment = second_moment = FP32 * shape.parameters
    return weights + gradients + first_moment + second_moment


def logits_bytes(shape: Shape, rows: int, tokens: int) -> float:
    """One copy of the logits of a batch, in fp32."""
    return FP32 * rows * tokens * shape.vocabulary


def layer_bytes(
    shape: Shape, rows: int, tokens: int, *, clamped: bool = True, mask_bytes: int = 1
) -> float:
    """What one layer keeps for its backward pass, in fp32 (after Korthikanti et al. 2022, sec. 4).

    `clamped` is the `torch.max` with the smallest number that OPT then had between mask and
    softmax, and that keeps its input. Dropout masks take a byte per element on CUDA.
    """
    wide = rows * tokens * shape.width
    norms = 2 * 2  # two norms: what each takes, and gives to q, k and v or to the MLP
    attention = 3 + 1  # q, k and v for the two products, and what goes into the output matrix
    mlp = 4 + 4  # what the activation takes and gives, each 4 times as wide
    dropout_masks = 2 * mask_bytes * wide  # after attention and after the second matrix
    linear = FP32 * (norms + attention + mlp) * wide + dropout_masks

    scores = rows * shape.heads * tokens * tokens
    kept = 2 + clamped  # what softmax gives, what dropout gives, and the clamp's input
    return linear + (FP32 * kept + mask_bytes) * scores


def training_bytes(shape: Shape, rows: int, tokens: int) -> float:
    """The peak of a training step, at the start of its backward pass.

    Four copies of the logits are alive there: the logits, their log-softmax (kept for backward),
    and the gradients of each of the two.
    """
    layers = shape.layers * layer_bytes(shape, rows, tokens)
    return adamw_fp32_bytes(shape) + layers + 4 * logits_bytes(shape, rows, tokens)


def evaluation_bytes(shape: Shape, rows: int, tokens: int) -> float:
    """The peak of an evaluation batch between training steps.

    The optimizer and the gradients of the last step stay. Three copies of the logits are alive:
    themselves, the copy shifted by a token, and its log-softmax. In evaluation the model also
    returned its key-value cache.
    """
    cache = FP32 * shape.layers * 2 * rows * tokens * shape.width
    return adamw_fp32_bytes(shape) + cache + 3 * logits_bytes(shape, rows, tokens)


def evaluation_bytes_with_blocks_of_training(shape: Shape, trained_rows: int, rows: int) -> float:
    """What PyTorch holds of the device when evaluation can use no block that training left.

    The allocator keeps training's blocks, and logits of larger batches fit in none of them.
    """
    return training_bytes(shape, trained_rows, 1024) + 3 * logits_bytes(shape, rows, 1024)


def sharded_optimizer_bytes(parameters: int, devices: int) -> float:
    """Per device: bf16 weights and gradients whole; fp32 weights and AdamW's moments sharded."""
    whole = (BF16 + BF16) * parameters
    sharded = (FP32 + FP32 + FP32) * parameters / devices
    return whole + sharded


def fully_sharded_bytes(parameters: int, devices: int) -> float:
    """Per device: fp32 weights, gradients and AdamW's two moments, all sharded."""
    return (FP32 + FP32 + FP32 + FP32) * parameters / devices
