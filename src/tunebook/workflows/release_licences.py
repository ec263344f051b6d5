"""Find the licences that the files of a base and of training data state, for a model card."""

from __future__ import annotations

from pathlib import Path

from tunebook.book.licences import Licence, read_cached_licence, read_licence
from tunebook.models.find import EMBEDDED_FOLDER
from tunebook.pages.card_lineage import (
    find_ancestors,
    hub_data,
    on_hub,
    root_model,
    sources_of,
)
from tunebook.pages.model_card import Licences
from tunebook.pages.run_page import PageSource
from tunebook.recipe.home import expand_home
from tunebook.recipe.hub_path import EMBEDDED


def find_licences(source: PageSource, weights: str) -> Licences:
    """Read what the files of the first base, and those beside every source, state.

    Only what is on this machine is read: a folder, or the cache of the hub.
    """
    ancestors = find_ancestors(source, weights)
    root = root_model(ancestors)
    paths = {str(one.get("path") or "") for each in ancestors for one in sources_of(each.data)}
    return Licences(
        base=None if root is None else _of_base(root),
        data={path: _of_source(path) for path in paths},
    )


def _of_base(model: str) -> Licence | None:
    if model == EMBEDDED:
        return read_licence(EMBEDDED_FOLDER)
    folder = expand_home(model)
    if folder.is_dir():
        return read_licence(folder)
    if not on_hub(model):  # a folder that is gone: all of a whole model is in the weights
        return None
    repo, _, revision = model.partition("@")
    return read_cached_licence(repo, "model", revision or None)


def _of_source(path: str) -> Licence | None:
    found = hub_data(path)
    if found is not None:
        return read_cached_licence(found[0], "dataset", found[1])
    place = expand_home(path)
    folder = place if place.is_dir() else _fixed(place).parent
    return read_licence(folder)


def _fixed(path: Path) -> Path:
    """Give the first part of a pattern that is one, so that its parent is a folder."""
    for place in (*reversed(path.parents), path):
        if any(sign in place.name for sign in "*?["):
            return place
    return path
