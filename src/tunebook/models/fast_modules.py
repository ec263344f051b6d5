"""Faster equals of what many architectures share, put in the place of their modules' `forward`.

Nothing else of a model changes: its classes, weights, names and config stay, and so does what is
saved. Whether one may stand for a class is found by computing, on a stand-in of a few numbers;
`step.check` then compares the whole model with itself before any of them trains.
Shapes: N tokens, M of them needed, D width, F width inside a layer, H heads, W width of a head;
I and O widths that enter and leave an adapted layer, R rank of its adapter.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import FunctionType, MethodType, SimpleNamespace
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers.activations import FastGELUActivation, NewGELUActivation, SiLUActivation
from transformers.pytorch_utils import Conv1D

from tunebook.models.layers import find_layers

# Keyword of a model's forward: the positions whose last hidden state is asked for, (M,).
NEEDED = "tunebook_needed"

_TAKE_BACK = "_tunebook_take_back"
_ROTARY = "apply_rotary_pos_emb"


def use_fast_modules(causal: Any) -> None:
    """Let known modules of a model compute the same with less; calling it twice is harmless."""
    if _TAKE_BACK in causal.__dict__:
        return
    before: list[tuple[nn.Module, Any]] = []

    def replace(module: nn.Module, forward: Callable[..., Any]) -> None:
        before.append((module, module.__dict__.get("forward")))
        module.forward = forward

    modules: list[nn.Module] = list(causal.modules())
    for module in modules:
        kind: Any = type(module)
        if isinstance(module, NewGELUActivation | FastGELUActivation):
            replace(module, _gelu_tanh)
        elif _normalizes(kind):
            replace(module, MethodType(_norm_forward, module))
        elif _gates(kind) and isinstance(module.act_fn, nn.SiLU | SiLUActivation):
            replace(module, MethodType(_gated_forward, module))
        rotating = _with_fast_rotation(kind)
        if rotating is not None:
            replace(module, MethodType(rotating, module))
    layers = find_layers(causal)[1]
    last = getattr(layers[-1], "mlp", None) if layers else None
    hook = None
    if isinstance(last, nn.Module) and type(last).__name__.endswith("MLP"):
        rows = _NeededRows(last.forward)
        replace(last, rows)
        hook = layers[-1].register_forward_pre_hook(rows.take_note, with_kwargs=True)

    def take_back() -> None:
        del causal.__dict__[_TAKE_BACK]
        for module, forward in reversed(before):
            if forward is None:
                del module.forward
            else:
                module.forward = forward
        if hook is not None:
            hook.remove()

    causal.__dict__[_TAKE_BACK] = take_back


def use_own_modules(causal: Any) -> None:
    """Take back what `use_fast_modules` did to a model, if it did."""
    causal.__dict__.get(_TAKE_BACK, lambda: None)()


def use_fast_adapters(network: nn.Module) -> None:
    """Let plain LoRA layers of a network that peft made compute the same in fewer passes.

    Which they are is asked again at each call, for an adapter may be merged or switched off, and
    the weights below it packed.
    """
    modules: list[nn.Module] = list(network.modules())
    for module in modules:
        kind: Any = type(module)
        if hasattr(module, "lora_A") and _adapts(kind):
            module.forward = MethodType(_adapted_forward, module)


class _NeededRows:
    """The last layer's MLP, at those positions only whose hidden state anything is made of."""

    def __init__(self, forward: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self._forward = forward
        self._rows_M: torch.Tensor | None = None

    def take_note(self, _layer: nn.Module, _inputs: Any, keywords: dict[str, Any]) -> None:
        """Learn the positions at each call of the layer, also when checkpointing repeats it."""
        self._rows_M = keywords.get(NEEDED)

    def __call__(self, hidden_1ND: torch.Tensor) -> torch.Tensor:
        if self._rows_M is None:
            return self._forward(hidden_1ND)
        made_1MD = self._forward(hidden_1ND.index_select(1, self._rows_M))
        return torch.zeros_like(hidden_1ND).index_copy(1, self._rows_M, made_1MD)


def _gelu_tanh(input_NF: torch.Tensor) -> torch.Tensor:
    """Compute in one operation, keeping one tensor, what those modules do in eight."""
    return functional.gelu(input_NF, approximate="tanh")


class _RmsNorm(torch.autograd.Function):
    """x / sqrt(mean(x^2) + eps) * weight, keeping x and a number a token (arXiv:1910.07467)."""

    @staticmethod
    def forward(
        ctx: Any, input_ND: torch.Tensor, weight_D: torch.Tensor, eps: float
    ) -> torch.Tensor:
        wide_ND = input_ND.float()
        scale_N1 = torch.rsqrt(wide_ND.pow(2).mean(-1, keepdim=True) + eps)
        ctx.save_for_backward(input_ND, weight_D, scale_N1)
        # Rounded before the weight comes in, as the modules do.
        return (wide_ND * scale_N1).to(input_ND.dtype) * weight_D

    @staticmethod
    def backward(ctx: Any, grad_ND: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        input_ND, weight_D, scale_N1 = ctx.saved_tensors
        needs_input, needs_weight, _ = ctx.needs_input_grad
        normed_ND = input_ND.float() * scale_N1
        product_ND = normed_ND * grad_ND
        grad_weight_D = grad_input_ND = None
        if needs_weight:
            grad_weight_D = product_ND.flatten(0, -2).sum(0).to(weight_D.dtype)
        if needs_input:
            mean_N1 = (product_ND @ weight_D.float())[..., None] / input_ND.shape[-1]
            wide_ND = (grad_ND * weight_D).float().addcmul_(normed_ND, mean_N1, value=-1.0)
            grad_input_ND = wide_ND.mul_(scale_N1).to(input_ND.dtype)
        return grad_input_ND, grad_weight_D, None


class _Gated(torch.autograd.Function):
    """silu(gate) * up, keeping the two alone (arXiv:2002.05202)."""

    @staticmethod
    def forward(ctx: Any, gate_NF: torch.Tensor, up_NF: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(gate_NF, up_NF)
        return functional.silu(gate_NF).mul_(up_NF)

    @staticmethod
    def backward(ctx: Any, grad_NF: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        gate_NF, up_NF = ctx.saved_tensors
        grad_up_NF = functional.silu(gate_NF).mul_(grad_NF)
        grad_gate_NF = torch.ops.aten.silu_backward(grad_NF * up_NF, gate_NF)
        return grad_gate_NF, grad_up_NF


class _Rotated(torch.autograd.Function):
    """x * cos + rotate_half(x) * sin in three passes, keeping nothing of x (arXiv:2104.09864)."""

    @staticmethod
    def forward(
        ctx: Any, input_HNW: torch.Tensor, cos_NW: torch.Tensor, sin_NW: torch.Tensor
    ) -> torch.Tensor:
        ctx.save_for_backward(cos_NW, sin_NW)
        made_HNW = input_HNW * cos_NW
        (low, high), (sin_low, sin_high) = input_HNW.chunk(2, -1), sin_NW.chunk(2, -1)
        made_low, made_high = made_HNW.chunk(2, -1)
        made_low.addcmul_(high, sin_low, value=-1.0)
        made_high.addcmul_(low, sin_high)
        return made_HNW

    @staticmethod
    def backward(ctx: Any, grad_HNW: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        cos_NW, sin_NW = ctx.saved_tensors
        made_HNW = grad_HNW * cos_NW
        (low, high), (sin_low, sin_high) = grad_HNW.chunk(2, -1), sin_NW.chunk(2, -1)
        made_low, made_high = made_HNW.chunk(2, -1)
        made_low.addcmul_(high, sin_high)
        made_high.addcmul_(low, sin_low, value=-1.0)
        return made_HNW, None, None


class _Adapted(torch.autograd.Function):
    """x @ W + bias + scaling * x @ A^T @ B^T in one tensor, of which x and x @ A^T are kept.

    W and bias are frozen (arXiv:2106.09685).
    """

    @staticmethod
    def forward(
        ctx: Any,
        input_NI: torch.Tensor,
        a_RI: torch.Tensor,
        b_OR: torch.Tensor,
        base: nn.Module,
        scaling: float,
    ) -> torch.Tensor:
        low_NR = input_NI @ a_RI.T
        weight: Any = base.weight
        ctx.save_for_backward(input_NI, low_NR, a_RI, b_OR, weight)
        ctx.scaling, ctx.transposed = scaling, isinstance(base, Conv1D)
        if input_NI.dtype != torch.float32:
            return _added_before_rounding(input_NI, low_NR * scaling, b_OR, base)
        made_NO: torch.Tensor = base(input_NI)
        # Not addmm_, whose operations torch's profiler does not count.
        return torch.addmm(made_NO, low_NR, b_OR.T, alpha=scaling, out=made_NO)

    @staticmethod
    def backward(ctx: Any, grad_NO: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        input_NI, low_NR, a_RI, b_OR, weight = ctx.saved_tensors
        grad_low_NR = (grad_NO @ b_OR).mul_(ctx.scaling)
        grad_input_NI = None
        if ctx.needs_input_grad[0]:
            grad_input_NI = grad_NO @ (weight.T if ctx.transposed else weight)
            torch.addmm(grad_input_NI, grad_low_NR, a_RI, out=grad_input_NI)
        grad_b_OR = (grad_NO.T @ low_NR).mul_(ctx.scaling)
        return grad_input_NI, grad_low_NR.T @ input_NI, grad_b_OR, None, None


def _added_before_rounding(
    input_NI: torch.Tensor, low_NR: torch.Tensor, b_OR: torch.Tensor, base: Any
) -> torch.Tensor:
    """Make x @ W + bias + low @ B^T as one product, whose sum is rounded once.

    A young adapter adds less than half the last place of a bf16 number: added to x @ W that was
    rounded already, it rounds to nothing, and the adapter learns as if it had hardly moved.
    """
    stacked_NS = torch.cat([input_NI, low_NR], 1)
    if isinstance(base, Conv1D):
        return torch.addmm(base.bias, stacked_NS, torch.cat([base.weight, b_OR.T]))
    return functional.linear(stacked_NS, torch.cat([base.weight, b_OR], 1), base.bias)


def _adapted_forward(
    layer: Any, hidden_states: torch.Tensor, *args: Any, **kwargs: Any
) -> torch.Tensor:
    base, names = layer.base_layer, layer.active_adapters
    if not args and not kwargs and len(names) == 1 and _plain(layer, names[0], hidden_states):
        a_RI, b_OR = layer.lora_A[names[0]].weight, layer.lora_B[names[0]].weight
        made_NO: torch.Tensor = _Adapted.apply(  # type: ignore[no-untyped-call]
            hidden_states.flatten(0, -2), a_RI, b_OR, base, layer.scaling[names[0]]
        )
        return made_NO.view(*hidden_states.shape[:-1], made_NO.shape[-1])
    own: torch.Tensor = type(layer).forward(layer, hidden_states, *args, **kwargs)
    return own


def _plain(layer: Any, name: str, input_NI: torch.Tensor) -> bool:
    """Tell whether an adapter is two matrices beside a frozen one, all of the input's type."""
    base = layer.base_layer
    if layer.merged or layer.disable_adapters or type(base) not in (nn.Linear, Conv1D):
        return False
    if name not in layer.lora_A or name in layer.lora_variant:
        return False
    down, up = layer.lora_A[name], layer.lora_B[name]
    return (
        up.bias is None
        and isinstance(layer.lora_dropout[name], nn.Identity)
        and not any(parameter.requires_grad for parameter in base.parameters())
        and input_NI.dtype == base.weight.dtype == down.weight.dtype == up.weight.dtype
    )


def _norm_forward(norm: Any, hidden_states: torch.Tensor) -> torch.Tensor:
    made: torch.Tensor = _RmsNorm.apply(hidden_states, norm.weight, norm.variance_epsilon)  # type: ignore[no-untyped-call]
    return made


def _gated_forward(mlp: Any, hidden_states: torch.Tensor) -> torch.Tensor:
    made_NF = _Gated.apply(mlp.gate_proj(hidden_states), mlp.up_proj(hidden_states))  # type: ignore[no-untyped-call]
    made_ND: torch.Tensor = mlp.down_proj(made_NF)
    return made_ND


def _rotate(
    query_1HNW: torch.Tensor,
    key_1KNW: torch.Tensor,
    cos_1NW: torch.Tensor,
    sin_1NW: torch.Tensor,
    unsqueeze_dim: int = 1,
) -> tuple[torch.Tensor, torch.Tensor]:
    cos, sin = cos_1NW.unsqueeze(unsqueeze_dim), sin_1NW.unsqueeze(unsqueeze_dim)
    return _Rotated.apply(query_1HNW, cos, sin), _Rotated.apply(key_1KNW, cos, sin)  # type: ignore[no-untyped-call]


@cache
def _normalizes(kind: Any) -> bool:
    """Tell whether a class of module is the common RMSNorm."""
    norm = SimpleNamespace(weight=_numbers(8), variance_epsilon=0.5)
    return _alike(kind.forward, _norm_forward, norm, _numbers(3, 8))


@cache
def _gates(kind: Any) -> bool:
    """Tell whether a class of module is the common gated MLP."""
    gate, up, down = _numbers(4, 6), _numbers(5, 6)[1:] * 2, _numbers(6, 4)
    mlp = SimpleNamespace(
        gate_proj=lambda x: x @ gate,
        up_proj=lambda x: x @ up,
        down_proj=lambda x: x @ down,
        act_fn=functional.silu,
        config=SimpleNamespace(),
    )
    return _alike(kind.forward, _gated_forward, mlp, _numbers(3, 4))


@cache
def _adapts(kind: Any) -> bool:
    """Tell whether a class of module is peft's adapted linear layer."""
    base, down, up = (_linear(*sizes) for sizes in ((5, 4), (2, 4), (5, 2)))
    layer = SimpleNamespace(
        base_layer=base,
        lora_A={"a": down},
        lora_B={"a": up},
        lora_dropout={"a": nn.Identity()},
        scaling={"a": 0.7},
        lora_variant={},
        active_adapters=["a"],
        merged=False,
        disable_adapters=False,
        _check_forward_args=lambda *_, **__: None,
        _cast_input_dtype=lambda x, _: x,
    )
    return _alike(kind.forward, _adapted_forward, layer, _numbers(1, 3, 4))


def _linear(n_out: int, n_in: int) -> nn.Linear:
    """Make a frozen layer without a random draw."""
    layer = nn.Linear(n_in, n_out, bias=False, device="meta")
    layer.weight = nn.Parameter(_numbers(n_out, n_in), requires_grad=False)
    return layer


@cache
def _with_fast_rotation(kind: Any) -> Callable[..., Any] | None:
    """Give the forward of a class of attention with its rotation exchanged, None if it has none.

    The forward stays the class's own; only the name by which it finds the rotation leads elsewhere.
    """
    forward = kind.forward
    if not isinstance(forward, FunctionType) or _ROTARY not in forward.__code__.co_names:
        return None
    columns = _numbers(1, 2, 3, 4), _numbers(1, 1, 3, 4), _numbers(1, 3, 4) / 2, _numbers(1, 3, 4)
    own = forward.__globals__.get(_ROTARY)
    if own is None or not _alike(own, _rotate, *columns):
        return None
    names = {**forward.__globals__, _ROTARY: _rotate}
    made = FunctionType(
        forward.__code__, names, forward.__name__, forward.__defaults__, forward.__closure__
    )
    made.__kwdefaults__ = forward.__kwdefaults__
    return made


def _numbers(*shape: int) -> torch.Tensor:
    """Make a tensor of different numbers around 0 without a random draw."""
    n = torch.Size(shape).numel()
    return torch.sin(torch.arange(1.0, n + 1.0, device="cpu") * 1.7).reshape(shape)


@torch.no_grad()
def _alike(own: Callable[..., Any], fast: Callable[..., Any], *given: Any) -> bool:
    try:
        found = own(*given)
    except Exception:  # a class that wants anything else is another one
        return False
    expected = fast(*given)
    if not isinstance(found, tuple):
        found, expected = (found,), (expected,)
    return len(found) == len(expected) and all(
        isinstance(a, torch.Tensor) and a.shape == b.shape and torch.allclose(a, b, atol=1e-5)
        for a, b in zip(found, expected, strict=True)
    )
