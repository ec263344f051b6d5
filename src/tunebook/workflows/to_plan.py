"""What `tunebook plan` is asked to plan, read before torch's seconds of import."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tunebook.book.places import find_book_of
from tunebook.data.sources import refuse_missing
from tunebook.errors import BookError, ModelError
from tunebook.models.find import find_config
from tunebook.models.weight_files import weight_files
from tunebook.recipe.load import load_run_file
from tunebook.recipe.tree import Recipe
from tunebook.workflows.at_once import refuse_damaged
from tunebook.workflows.train import accepting, load_recipe, with_run_model


@dataclass(frozen=True, slots=True)
class ToPlan:
    """A resolved recipe; `book` is None outside of one, `environment` tells of a parent run."""

    recipe: Recipe
    environment: dict[str, object]
    book: Path | None


def recipe_to_plan(
    run_file: str | Path,
    overrides: Sequence[str] = (),
    *,
    device: str | None = None,
    devices: int | None = None,
    accept: Sequence[str] = (),
    book: Path | None = None,
) -> ToPlan:
    """Resolve a run file, or a new run of a book; `device` and `devices` stand above both.

    Raises RunFileError, BookError or DataError for what is wrong with it.
    """
    asked = _resolved(run_file, overrides, device, devices, accept, book)
    if _has_weights(asked.recipe.model):
        refuse_missing(asked.recipe)
    refuse_damaged(asked.recipe)
    return asked


def _has_weights(model: str) -> bool:
    """Tell whether a model is here as a whole; of one that is not, a plan goes on without data."""
    try:
        return bool(weight_files(find_config(model)))
    except ModelError:
        return False  # the plan says what is wrong with it


def _resolved(
    run_file: str | Path,
    overrides: Sequence[str],
    device: str | None,
    devices: int | None,
    accept: Sequence[str],
    book: Path | None,
) -> ToPlan:
    if book is None:
        try:
            book = find_book_of(run_file)
        except BookError:
            book = None
    extra = [f"device={device}"] if device is not None else []
    extra += [f"devices={devices}"] if devices is not None else []
    overrides = (*overrides, *extra)
    if book is None:
        accepted = [f"accept=[{', '.join(accept)}]"] if accept else []
        return ToPlan(load_run_file(Path(run_file), (*overrides, *accepted)).recipe, {}, None)
    overrides = accepting(run_file, overrides, accept, book)
    return ToPlan(*with_run_model(book, load_recipe(run_file, overrides, book).recipe), book)
