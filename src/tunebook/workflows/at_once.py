"""What is refused in a second, before torch is imported and before a run has a folder."""

from __future__ import annotations

from tunebook.data.sources import refuse_missing
from tunebook.models.screen import screen_folder
from tunebook.models.weight_files import refuse_damage
from tunebook.recipe.home import expand_home
from tunebook.recipe.tree import Recipe


def refuse_at_once(recipe: Recipe) -> None:
    """Raise DataError for data that is not there, ModelError for a local model that is not loaded.

    Neither the hub nor torch is asked.
    """
    refuse_missing(recipe)
    refuse_damaged(recipe)


def refuse_damaged(recipe: Recipe) -> None:
    """Raise ModelError for a folder here that is none of a model's, or whose weights are damaged.

    They are damaged where they are cut, garbled or missing in part.
    """
    folder = expand_home(recipe.model)
    if folder.is_dir():
        if (folder / "config.json").is_file():
            screen_folder(folder, recipe.model)  # before any file that it names is opened
        refuse_damage(folder, recipe.model)
