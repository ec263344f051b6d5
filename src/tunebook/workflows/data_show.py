"""What `tunebook data show` does: a file as a model's tokenizer and template will see it."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from tunebook.data.detect import detect
from tunebook.data.show import ShownData, show_data
from tunebook.data.sources import locate
from tunebook.errors import UsageError
from tunebook.models.tokenizer import load_tokenizer
from tunebook.recipe.tree import Source

_OPTIONS = {"columns": "column", "roles": "role"}


def show(
    path: str,
    *,
    model: str = "tunebook/tiny",
    data_format: str = "auto",
    template: str = "auto",
    stage: str | None = None,
    columns: Mapping[str, str] | None = None,
    roles: Mapping[str, str] | None = None,
    document: str = "auto",
    whole: bool = True,
) -> ShownData:
    """Describe a data file; no book is needed and nothing is kept.

    Unless `whole`, of a long row only the begin is shown.

    Raises DataError for the file, ModelError for the tokenizer, UsageError for an option.
    """
    source = source_of(
        path, data_format=data_format, columns=columns, roles=roles, document=document
    )
    # A wrong path is said at once; a tokenizer takes seconds to load.
    detect(locate(source.path), source)
    return show_data(source, load_tokenizer(model), template=template, stage=stage, whole=whole)


def source_of(
    path: str,
    *,
    data_format: str = "auto",
    columns: Mapping[str, str] | None = None,
    roles: Mapping[str, str] | None = None,
    document: str = "auto",
) -> Source:
    """Make the source that a run file would state; UsageError for an option that is wrong."""
    try:
        return Source.model_validate(
            {
                "path": path,
                "format": data_format,
                "columns": dict(columns or {}),
                "roles": dict(roles or {}),
                "document": document,
            }
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(
            f"{'.'.join(map(str, first['loc']))} {first['input']!r}: {first['msg']}"
        ) from None


def refuse_stated(stated: Mapping[str, object], target: str) -> None:
    """Refuse what says what a data file is where a run file does; UsageError naming the option."""
    given = next((key for key, value in stated.items() if value not in ("auto", None, {})), None)
    if given is not None:
        raise UsageError(
            f"--{_OPTIONS.get(given, given)} is for a data file, and {target} is a run file, which "
            f"says `{given}:` itself; change it there"
        )
