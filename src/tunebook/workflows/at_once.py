"""What is refused in a second, before torch is imported and before a run has a folder."""

from __future__ import annotations

from tunebook.data.sources import refuse_missing
from tunebook.models.weight_files import refuse_damage
from tunebook.recipe.home import expand_home
from tunebook.recipe.tree import Recipe


def refuse_at_once(recipe: Recipe) -> None:
    """Raise DataError for data that is not there, ModelError for a local model's damaged weights.

    Neither the hub nor torch is asked.
    """
    refuse_missing(recipe)
    refuse_damaged(recipe)


def refuse_damaged(recipe: Recipe) -> None:
    """Raise ModelError where weights in a folder here are cut, garbled or missing in part."""
    folder = expand_home(recipe.model)
    if folder.is_dir():
        refuse_damage(folder, recipe.model)
