"""What a run keeps of the layers below its adapter: how much, where, and until when."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunebook.data.prepare import Prepared
from tunebook.recipe.tree import Recipe
from tunebook.step.horizon import plan_horizon

if TYPE_CHECKING:
    from tunebook.workflows.before import Run


def tokens_to_keep(recipe: Recipe, prepared: Prepared) -> int:
    """Count the tokens of all examples that a run trains on or scores, each once; 0: none kept."""
    if not recipe.lora.cache_activations:
        return 0
    held_out = 0 if prepared.validation is None else int(prepared.validation.lengths.sum())
    n_rows = plan_horizon(recipe, prepared.train).total_rows
    return held_out + prepared.train.tokens_of_rows(n_rows)


def keep_activations(run: Run) -> None:
    """Begin to keep them, empty: what an earlier attempt kept is computed anew."""
    if run.scorer.below is not None:
        on_disk = run.recipe.lora.cache_activations == "disk"
        n_tokens = tokens_to_keep(run.recipe, run.prepared)
        run.scorer.below.keep(n_tokens, run.run.path if on_disk else None)


def describe_cache(run: Run) -> dict[str, object] | None:
    """Give what the run's facts say of it; None where nothing is kept."""
    below = run.scorer.below
    if below is None:
        return None
    tokens = tokens_to_keep(run.recipe, run.prepared)
    return {
        "kept_in": run.recipe.lora.cache_activations,
        "layers_below": below.first,
        "tokens": tokens,
        "planned_bytes": tokens * below.bytes_per_token,
    }


def say_if_not_kept(run: Run) -> None:
    """Tell once that activations are no longer kept, and why."""
    below = run.scorer.below
    if below is not None and below.ended is not None:
        run.say(below.ended)
        below.ended = None
