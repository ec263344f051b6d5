"""What `tunebook data stats` and `tunebook data prepare` do: tokenize sources, and measure them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tunebook.book.places import RunFolder, find_book
from tunebook.data.build import Built, Progress, Workers, build_source
from tunebook.data.detect import detect
from tunebook.data.prepare import token_settings, validation_source, with_own_names
from tunebook.data.show import build_uncut
from tunebook.data.sources import locate
from tunebook.data.stats import SourceStats, describe_source
from tunebook.errors import UsageError
from tunebook.models.tokenizer import load_tokenizer
from tunebook.workflows.data_show import refuse_stated, source_of
from tunebook.workflows.train import load_recipe, with_run_model

Watch = Callable[[Progress], None]
Say = Callable[[str], None]


def stats(
    target: str,
    overrides: Sequence[str] = (),
    *,
    model: str = "tunebook/tiny",
    data_format: str = "auto",
    template: str = "auto",
    stage: str | None = None,
    columns: Mapping[str, str] | None = None,
    roles: Mapping[str, str] | None = None,
    document: str = "auto",
    workers: Workers | None = None,
    say: Say = lambda _text: None,
    watch: Watch | None = None,
) -> list[SourceStats]:
    """Measure the sources of a run file, as its run would see them, or a data file uncut.

    The tokens of a run file's sources are kept for its run, those of a data file are not; the
    options after `overrides` are for a data file. Raises DataError, RunFileError or ModelError as
    training would, BookError for a run file outside a book, UsageError for options that are not for
    this target.
    """
    stated = {
        "format": data_format,
        "document": document,
        "columns": columns,
        "roles": roles,
        "template": template,
        "stage": stage,
    }
    if _is_run_file(target):
        refuse_stated(stated, target)
        ready = prepare(target, overrides, workers=workers, say=say, watch=watch)
        return [describe_source(one) for one in ready]
    if overrides:
        raise UsageError(
            f"{overrides[0]} is for a run file, and {target} is a data file; leave it out"
        )
    source = source_of(
        target, data_format=data_format, columns=columns, roles=roles, document=document
    )
    # A wrong path is said at once; a tokenizer takes seconds to load.
    detect(locate(source.path), source)
    codec = load_tokenizer(model)
    with tempfile.TemporaryDirectory(prefix="tunebook-stats-") as folder:
        built, _ = build_uncut(
            source,
            codec,
            Path(folder),
            template=template,
            stage=stage,
            say=say,
            workers=workers,
            watch=watch,
        )
        return [describe_source(built)]


def prepare(
    run_file: str,
    overrides: Sequence[str] = (),
    *,
    workers: Workers | None = None,
    say: Say = lambda _text: None,
    watch: Watch | None = None,
) -> list[Built]:
    """Tokenize the sources of a run file into its book, so that training starts at once.

    Raises what `stats` does.
    """
    book = find_book()
    recipe, _ = with_run_model(book, load_recipe(run_file, overrides, book).recipe)
    cache_dir = RunFolder(book, recipe.name).cache_dir
    codec = load_tokenizer(recipe.model, recipe.add_tokens, cache_dir)
    settings = token_settings(recipe)
    sources = [*recipe.data]
    if recipe.validation.path is not None:
        sources.append(validation_source(recipe))
    return with_own_names(
        [
            build_source(source, settings, codec, cache_dir, say, workers=workers, watch=watch)
            for source in sources
        ]
    )


def _is_run_file(target: str) -> bool:
    path = Path(target)
    if path.suffix in (".yaml", ".yml"):
        return True
    return not path.exists() and len(path.parts) == 1 and not path.suffix and "*" not in target
