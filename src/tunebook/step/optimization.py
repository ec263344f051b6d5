"""Gradients in, weights out: accumulation, the finite check, clipping and the optimizer.

With bf16 weights every trained parameter has an fp32 master copy. Gradients are added up in fp32
as they are made, the optimizer moves the masters, and the bf16 weights are their rounding: plain
bf16 updates at fine-tuning learning rates would round to nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from tunebook.models.quantize import adamw_8bit
from tunebook.recipe.tree import Train
from tunebook.step.sharding import is_sharded, whole
from tunebook.step.team import Team


class Optimization:
    """The trained parameters with their optimizer; its state is named tensors, never a pickle."""

    def __init__(
        self,
        parameters: Mapping[str, torch.nn.Parameter],
        train: Train,
        *,
        keeps_rounded: bool = False,
        exact: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        """`keeps_rounded`: the parameters are masters themselves, and saved weights rounded.

        `exact` are what masters begin with, where the parameters are its rounding; taken as they
        are, without a copy.
        """
        self.parameters = dict(parameters)
        self.keeps_rounded = keeps_rounded
        self.sharded = any(map(is_sharded, self.parameters.values()))
        self.masters: dict[str, torch.nn.Parameter] = {}
        for name, parameter in self.parameters.items():
            if parameter.dtype == torch.float32:
                self.masters[name] = parameter
                continue
            known = (exact or {}).get(name)
            master = torch.nn.Parameter(parameter.detach().float() if known is None else known)
            self.masters[name] = master
            parameter.register_post_accumulate_grad_hook(_move_gradient_to(master))
        self.homes = {} if self.sharded else {p: self.masters[n] for n, p in parameters.items()}
        """By weight, whose `grad` its gradients may be added to straight away, in fp32."""
        decayed = [p for p in self.masters.values() if p.ndim >= 2]
        plain = [p for p in self.masters.values() if p.ndim < 2]
        groups = [
            {"params": decayed, "weight_decay": train.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        self.optimizer: torch.optim.Optimizer
        self._fused = train.optimizer == "adamw" and _fused(decayed + plain)
        if train.optimizer == "adamw":
            self.optimizer = torch.optim.AdamW(
                groups, lr=train.learning_rate, betas=train.betas, fused=self._fused
            )
        elif train.optimizer == "adamw_8bit":
            self.optimizer = adamw_8bit(groups, train.learning_rate, train.betas)
        else:
            self.optimizer = torch.optim.SGD(
                groups, lr=train.learning_rate, momentum=train.momentum
            )

    @property
    def uses_masters(self) -> bool:
        """Tell whether weights are stored at lower precision than they are updated."""
        return self.keeps_rounded or any(
            self.masters[n] is not p for n, p in self.parameters.items()
        )

    def clear_gradients(self) -> None:
        """Forget the gradients of the last step."""
        for name, parameter in self.parameters.items():
            parameter.grad = None
            self.masters[name].grad = None

    @torch.no_grad()
    def add_up_gradients(self, team: Team) -> None:
        """Add gradients up over a team whose ranks each hold all weights, in one go.

        Sharded ones were added up in the backward pass.
        """
        if team.alone or self.sharded:
            return
        masters = list(self.masters.values())
        flat = torch.cat(
            [(m.grad if m.grad is not None else torch.zeros_like(m)).reshape(-1) for m in masters]
        )
        parts = team.add_up(flat).split([m.numel() for m in masters])
        for master, part in zip(masters, parts, strict=True):
            master.grad = part.view_as(master)

    def grad_norm(self) -> torch.Tensor:
        """Give the norm of all gradients before clipping, as a scalar tensor on the device."""
        grads = [p.grad for p in self.masters.values() if p.grad is not None]
        return whole(torch.nn.utils.get_total_norm(grads))

    def weights_are_finite(self) -> bool:
        """Tell whether every trained weight is a number: one more pass over the weights."""
        weights = [p.detach() for p in self.masters.values()]
        if all(type(w) is torch.Tensor and w.device.type == "cpu" for w in weights):
            # A tenth of the time of a largest value on a CPU; to overflow, weights need be 1e30.
            return bool(torch.stack([w.sum() for w in weights]).isfinite().all())
        return bool(whole(torch.nn.utils.get_total_norm(weights, float("inf"))).isfinite())

    def apply(self, learning_rate: float, clip_factor: float) -> None:
        """Scale the gradients by `clip_factor` and update the weights."""
        self._scale_gradients(clip_factor)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        try:
            self.optimizer.step()
        finally:
            self.optimizer.grad_scale = None  # type: ignore[attr-defined]
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                if self.masters[name] is not parameter:
                    parameter.copy_(self.masters[name])

    def _scale_gradients(self, factor: float) -> None:
        if self._fused and not self.sharded:
            # Its kernel divides by this as it goes, which saves a pass over all gradients.
            device = next(iter(self.masters.values())).device
            scale = None if factor == 1.0 else torch.full((), 1 / factor, device=device)
            self.optimizer.grad_scale = scale  # type: ignore[attr-defined]
        elif factor < 1.0:
            for parameter in self.masters.values():
                if parameter.grad is not None:
                    parameter.grad.mul_(factor)

    @torch.no_grad()
    def begin_anew(self, forgotten: float) -> None:
        """Take over parameters that were set from outside, and forget a share of the averages.

        Where the first average is smallest all become 0 (magnitude pruning, Lialin et al. 2023;
        together, for AdamW would divide an average of gradients that stayed by a square that went).
        With 1.0 nothing is left, and the bias correction of AdamW begins anew too.
        """
        for name, parameter in self.parameters.items():
            master = self.masters[name]
            if master is not parameter:
                master.copy_(parameter)
            if forgotten == 1.0:
                self.optimizer.state.pop(master, None)
                continue
            state = self.optimizer.state[master].values()
            averages = [v for v in state if torch.is_tensor(v) and v.shape == master.shape]
            n_forgotten = int(forgotten * master.numel())
            if averages and n_forgotten:
                sizes = averages[0].abs()
                kept = sizes > sizes.flatten().kthvalue(n_forgotten).values
                for average in averages:
                    average.mul_(kept)

    def state_tensors(self) -> dict[str, torch.Tensor]:
        """Give everything a resume needs beside the weights: `<parameter>|<state name>`."""
        return {name: tensor.cpu().contiguous() for name, tensor in self.state_on_device().items()}

    def state_on_device(self) -> dict[str, torch.Tensor]:
        """Give what `state_tensors` gives without moving it; sharded tensors stay so."""
        tensors = {}
        for name, master in self.masters.items():
            for key, value in self.optimizer.state[master].items():
                if torch.is_tensor(value):
                    # bitsandbytes shares its tables among parameters, files share nothing.
                    kept = value.clone() if key.startswith("qmap") else value
                    tensors[f"{name}|{key}"] = kept.detach()
                elif key == "step":
                    tensors[f"{name}|{key}"] = torch.tensor(value)
            if master is not self.parameters[name] or self.keeps_rounded:
                tensors[f"{name}|master"] = master.detach()
        return tensors

    def load_state_tensors(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Put back what `state_tensors` gave."""
        by_name: dict[str, dict[str, torch.Tensor]] = {}
        for joined, tensor in tensors.items():
            name, _, key = joined.rpartition("|")
            by_name.setdefault(name, {})[key] = tensor
        for name, values in by_name.items():
            master = self.masters[name]
            if "master" in values:
                with torch.no_grad():
                    master.copy_(values.pop("master"))
            state = self.optimizer.state[master]
            for key, value in values.items():
                # torch's AdamW counts steps in a float, bitsandbytes' in a plain number.
                plain = key == "step" and not value.is_floating_point()
                state[key] = int(value) if plain else value.to(master.device)


def _fused(parameters: list[torch.nn.Parameter]) -> bool:
    return all(p.device.type in ("cpu", "cuda") for p in parameters)


def _move_gradient_to(master: torch.nn.Parameter):  # type: ignore[no-untyped-def]
    """Make a hook that adds a parameter's fresh gradient to its master's, in fp32."""

    def move(parameter: torch.Tensor) -> None:
        if parameter.grad is None:
            return
        fresh = parameter.grad.float()
        master.grad = fresh if master.grad is None else master.grad.add_(fresh)
        parameter.grad = None

    return move
