"""The prompts a run is asked before and after training."""

from __future__ import annotations

from dataclasses import dataclass

from tunebook.data.prepare import Prepared, render_prompt, sample_prompts
from tunebook.models.tokenizer import Codec
from tunebook.recipe.tree import Recipe

_FROM_VALIDATION = 3


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as tokens, as text, and what the data answers (None for the author's own)."""

    ids: tuple[int, ...]
    text: str
    reference: str | None


def choose_prompts(recipe: Recipe, codec: Codec, prepared: Prepared) -> list[Prompt]:
    """Take the author's prompts through the run's template, else the first held-out ones."""
    if recipe.evaluate.prompts is not None:
        return [
            Prompt(tuple(render_prompt(recipe, codec, text, prepared)), text, None)
            for text in recipe.evaluate.prompts
        ]
    return [
        Prompt(tuple(ids), text, reference)
        for ids, text, reference in sample_prompts(prepared, _FROM_VALIDATION)
    ]
