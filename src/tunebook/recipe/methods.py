"""The sections of a run file that belong to one method of training each."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from tunebook.recipe.section import Section

_LAST = re.compile(r"last:[1-9]\d*")


def _names_layers(layers: object) -> object:
    whole = isinstance(layers, list) and all(type(n) is int and n >= 0 for n in layers)
    named = isinstance(layers, str) and (layers == "all" or _LAST.fullmatch(layers))
    if not layers or not (whole or named):
        raise ValueError("must be all, last:N, or a list of layers counted from 0, as [0, 5]")
    return layers


# Before the types are looked at: a message for each of them would say less.
Layers = Annotated[str | list[int], BeforeValidator(_names_layers)]


class Lora(Section):
    """The adapter of method lora (Hu et al. 2021)."""

    rank: int = Field(16, gt=0, description="Rank of the update.")
    alpha: float = Field(
        16,
        gt=0,
        description="The update is scaled by alpha / rank, with variant rslora by alpha / "
        "sqrt(rank).",
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout on the adapter's input.")
    target_modules: str | list[str] = Field(
        "all-linear", description="Module names, or all-linear (every linear layer but the head)."
    )
    layers: Layers = Field(
        "all",
        description="Layers that get an adapter: all, the last few (last:3), or named ones counted "
        "from 0 ([0, 5]).",
    )
    variant: Literal["lora", "rslora", "dora"] = Field(
        "lora",
        description="rslora: scaled so that large ranks learn as fast (Kalajdzievski 2023); dora: "
        "the length of each weight row is trained apart (Liu et al. 2024).",
    )

    cache_activations: Literal[False, "memory", "disk"] = Field(
        False,
        description="With method lora or qlora and adapters in the last layers (layers: last:3): "
        "compute what the layers below give once per example, and keep it for all epochs in memory "
        "or in a file. Exact; the model's config must have no dropout there.",
    )

    @model_validator(mode="after")
    def _layers_of_names(self) -> Lora:
        names = self.target_modules
        own = (
            names != "all-linear" if isinstance(names, str) else re.search(r"\.\d", " ".join(names))
        )
        if own and self.layers != "all":
            raise ValueError(
                "`layers` goes with `target_modules: all-linear` or a list of names, not with a "
                "pattern or paths, which can name layers themselves"
            )
        return self


def refuse_idle_cache(lora: Lora, method: str, devices: int, add_tokens: list[str]) -> None:
    """Raise ValueError where activations cannot be kept, whatever the model is."""
    reasons = (
        (method == "full", "method full trains the layers below too"),
        (method == "relora", "method relora adds its adapter to the weights"),
        (devices > 1, f"devices: {devices} would each keep some of them"),
        (bool(add_tokens), "`add_tokens` trains embeddings, below all layers"),
    )
    for applies, reason in reasons:
        if applies and lora.cache_activations:
            raise ValueError(
                f"`lora.cache_activations: {lora.cache_activations}` is not possible: {reason}; "
                "say cache_activations: false"
            )


class Quantization(Section):
    """How method qlora stores the frozen weights (Dettmers et al. 2023)."""

    bits: Literal[4] = Field(4, description="Bits per frozen weight.")
    kind: Literal["nf4"] = Field("nf4", description="The 16 values that 4 bits stand for.")
    double: bool = Field(True, description="Store the scales of blocks in 8 bits too.")


class Relora(Section):
    """How often method relora adds its adapter to the weights (Lialin et al. 2023)."""

    merge_every: int = Field(
        150, gt=0, description="Steps between two merges; after each the adapter begins anew."
    )
    warmup_steps: int = Field(
        10, ge=0, description="Steps of linear warm-up after each merge, back to the schedule."
    )
    reset_optimizer: float = Field(
        0.9,
        ge=0,
        le=1,
        description="Share of the optimizer's averages set to 0 at each merge, the smallest ones; "
        "1.0 forgets all of its state.",
    )

    @model_validator(mode="after")
    def _warm_in_time(self) -> Relora:
        if self.warmup_steps > self.merge_every:
            raise ValueError(
                f"`warmup_steps` {self.warmup_steps} would never be over: a merge comes every "
                f"{self.merge_every} steps (`merge_every`)"
            )
        return self
