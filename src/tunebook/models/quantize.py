"""What bitsandbytes makes: frozen weights in 4 bits, as QLoRA has them, and AdamW in 8 bits.

transformers puts bitsandbytes' layer in the place of every linear layer but the head, whichever way
round the model's own layer keeps its weight (GPT-2's is transposed), and quantizes each weight as
it is read. The same files give the same bits again.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil, prod
from typing import Any

import torch
from transformers import BitsAndBytesConfig
from transformers.pytorch_utils import Conv1D
from transformers.utils import is_bitsandbytes_available

from tunebook.errors import ModelError
from tunebook.recipe.methods import Quantization


def quantizing_config(quantization: Quantization, device: str, dtype: torch.dtype) -> Any:
    """Say to transformers how to quantize; products are computed in `dtype`.

    Raises ModelError where bitsandbytes is not installed or does not know the device.
    """
    if not is_bitsandbytes_available():
        raise ModelError(
            "method qlora needs bitsandbytes, which is not installed: "
            "`pip install 'tunebook[quant]'`, or say method: lora"
        )
    # Imported here: it costs a second, and only QLoRA needs it.
    import bitsandbytes

    if device not in bitsandbytes.supported_torch_devices:
        known = ", ".join(sorted(bitsandbytes.supported_torch_devices))
        raise ModelError(
            f"method qlora: bitsandbytes {bitsandbytes.__version__} has no 4-bit weights on "
            f"{device!r}, only on {known}; say another device, or method: lora"
        )
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=quantization.kind,
        bnb_4bit_use_double_quant=quantization.double,
        bnb_4bit_compute_dtype=dtype,
    )


# bitsandbytes' own: below this a tensor's averages stay in 32 bits; above, each block has a scale.
_SMALL_TENSOR, _BLOCK = 4096, 256
_TABLE_BYTES = 2 * 256 * 4


def adamw_8bit(groups: Iterable[dict[str, Any]], lr: float, betas: tuple[float, float]) -> Any:
    """Make AdamW with its averages in 8 bits; ModelError where bitsandbytes is not installed."""
    if not is_bitsandbytes_available():
        raise ModelError(
            "train.optimizer adamw_8bit needs bitsandbytes, which is not installed: "
            "`pip install 'tunebook[quant]'`, or say train.optimizer: adamw"
        )
    from bitsandbytes.optim import AdamW8bit

    return AdamW8bit(groups, lr=lr, betas=betas, min_8bit_size=_SMALL_TENSOR)


def eight_bit_bytes(n: int) -> int:
    """Give what `adamw_8bit` keeps of a tensor of `n` elements.

    Two averages of a byte each, two scales of 4 bytes per block of 256, and the tables of the
    values that 8 bits stand for (2 KiB); below 4,096 elements two averages of 4 bytes each.
    """
    return 8 * n if n < _SMALL_TENSOR else 2 * n + 8 * ceil(n / _BLOCK) + _TABLE_BYTES


def keep_layout(causal: Any) -> None:
    """Keep the weights as they are when they are scored.

    On CPUs with bf16 instructions bitsandbytes would lay them out anew at the first evaluation, for
    products in bf16 that have no gradient; training could not go on.
    """
    for module in causal.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def weight_count(parameter: torch.Tensor) -> int:
    """Count the weights of a tensor: of a 4-bit one those that it stands for, not its bytes."""
    state = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else prod(state.shape)


@torch.no_grad()
def take_quantized_values(plain: Any, quantized: Any) -> None:
    """Give a plain model the values that its 4-bit twin computes with, in place.

    An adapter that was trained on the twin belongs to these values: merged into the original ones
    it would be another model. Both are of the same files, without adapters.
    """
    for name, module in quantized.named_modules():
        state = getattr(getattr(module, "weight", None), "quant_state", None)
        if state is None:
            continue
        from bitsandbytes.functional import dequantize_4bit

        values = dequantize_4bit(module.weight.data, state)
        target = plain.get_submodule(name)
        target.weight.copy_(values.T if isinstance(target, Conv1D) else values)
