"""What `tunebook data mix` does: how much an epoch takes of every source of a run file."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunebook.book.places import RunFolder, find_book_of
from tunebook.data.prepare import Prepared, prepare
from tunebook.errors import BookError, TunebookError
from tunebook.models.find import find_model
from tunebook.models.tokenizer import load_tokenizer
from tunebook.recipe.load import load_run_file
from tunebook.recipe.tree import Recipe
from tunebook.workflows.run_data import describe_data
from tunebook.workflows.train import load_recipe, with_run_model

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Ready:
    """A recipe and its data, as its run would have them."""

    recipe: Recipe
    prepared: Prepared


def mix(
    run_file: str, overrides: Sequence[str] = (), *, say: Say = lambda _: None
) -> dict[str, Any]:
    """Give what `data.json` would hold, with `packing_efficiency` for each source that is packed.

    That is the share of a row's room that tokens fill. Raises what training would before step 1.
    """
    with prepared_run_file(run_file, overrides, say) as ready:
        found = describe_data(ready.prepared)
        room = ready.recipe.max_seq_len
        for share in found["mixture"]:
            packed = ready.recipe.packing and share["rows"]
            share["packing_efficiency"] = share["tokens"] / share["rows"] / room if packed else None
        found["packing"] = bool(ready.recipe.packing)
        found["notes"] += _say_too_long(ready, say)
        return found


def _say_too_long(ready: Ready, say: Say) -> list[str]:
    """Remark on rows longer than the model reads, which training refuses."""
    model, longest = ready.recipe.model, ready.prepared.longest
    try:
        config = json.loads((find_model(model) / "config.json").read_text(encoding="utf-8"))
    except (TunebookError, OSError, ValueError):
        # A tokenizer alone has no limit to speak of, and training tells what is wrong with a model.
        return []
    config = config if isinstance(config, dict) else {}
    limit = config.get("max_position_embeddings", config.get("n_positions"))
    if not isinstance(limit, int) or ready.recipe.max_seq_len <= limit:
        return []
    note = (
        f"max_seq_len {ready.recipe.max_seq_len}: {model} reads at most {limit} tokens, and the "
        f"longest row has {longest}; say max_seq_len: {limit}"
    )
    say(note)
    return [note]


@contextmanager
def prepared_run_file(
    run_file: str, overrides: Sequence[str], say: Say, *, whole: bool = False
) -> Iterator[Ready]:
    """Prepare the data of a run file; `whole` is all parts where it names one.

    Tokens are kept in the book for its run; outside a book they are gone at the end.
    """
    try:
        book = find_book_of(run_file)
    except BookError:
        book = None
    if book is None:
        recipe = load_run_file(Path(run_file), overrides).recipe
    else:
        recipe = with_run_model(book, load_recipe(run_file, overrides, book).recipe)[0]
    if whole:
        recipe = recipe.model_copy(update={"part": None})
    with tempfile.TemporaryDirectory(prefix="tunebook-mix-") as folder:
        cache = RunFolder(book, recipe.name).cache_dir if book else Path(folder)
        codec = load_tokenizer(recipe.model, recipe.add_tokens, cache)
        yield Ready(recipe, prepare(recipe, codec, cache, say))
