"""The sections of a run file that say when a run is measured and saved."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from tunebook.recipe.section import Section

Percent = Annotated[str, Field(pattern=r"^\d+(\.\d+)?%$")]


def _often_enough(every: int | str) -> int | str:
    if isinstance(every, int) and every < 1:
        raise ValueError("must be at least 1 step")
    if isinstance(every, str) and every.endswith("%") and not 0 < float(every[:-1]) <= 100:
        raise ValueError("must be a share above 0% and up to 100%")
    return every


Every = Annotated[int | Percent | Literal["epoch"], AfterValidator(_often_enough)]


class Evaluate(Section):
    """What is measured while training."""

    every: Every = Field("10%", description="Steps (25), a share of all steps (5%), or epoch.")
    canary: int = Field(
        4, ge=0, le=16, description="Fixed held-out examples scored at every step (small models)."
    )
    prompts: list[str] | None = Field(
        None,
        description="Prompts answered before and after; by default three of the held-out ones.",
    )
    max_new_tokens: int = Field(48, gt=0, le=4096, description="Length of those answers.")
    profile: bool | Literal["auto"] = Field(
        "auto",
        description="Look at one step kernel by kernel, to say what bounds the run (auto: where "
        "training is planned to take a minute or more).",
    )


class Checkpoint(Section):
    """When the run is saved; the best and the final weights are always kept."""

    every: Every = Field("10%", description="Steps (100), a share of all steps (10%), or epoch.")
    keep: int = Field(3, gt=0, description="How many of the newest checkpoints stay.")
    asynchronous: bool | Literal["auto"] = Field(
        "auto", description="Write while training goes on, one device, method full (auto: CUDA)."
    )
