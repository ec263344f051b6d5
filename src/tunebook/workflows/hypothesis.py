"""Write what the author expects into the run file of a run that has not begun."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunebook.book.atomic import alone, write_text
from tunebook.book.places import RunFolder, open_run, page_lock
from tunebook.book.predictions import parse_prediction
from tunebook.errors import BookError, RunFileError

if TYPE_CHECKING:
    from tunebook.recipe.load import LoadedRecipe


def write_hypothesis(
    book: Path, name: str, hypothesis: str | None, predictions: Sequence[str]
) -> Path:
    """Set `notebook.hypothesis` and `notebook.predict` in a run file and return the file.

    Everything else in it stays, comments too. BookError once the run has begun, RunFileError for a
    prediction that cannot be read.
    """
    run = open_run(book, name)
    _not_begun(run)
    for text in predictions:
        parse_prediction(text)
    from tunebook.recipe.yaml_text import read_text

    with alone(page_lock(book)):
        _not_begun(run)
        text = read_text(run.run_yaml)
        write_text(run.run_yaml, _with_expectation(text, run, hypothesis or None, predictions))
    return run.run_yaml


def refuse_changed(run: RunFolder, loaded: LoadedRecipe) -> None:
    """Raise BookError when a run's own file says something else than when it was read.

    What its author wrote since would neither be sealed nor kept.
    """
    from tunebook.recipe.yaml_text import read_text

    if loaded.path is None or loaded.path.resolve() != run.run_yaml.resolve():
        return
    if read_text(run.run_yaml) != loaded.written:
        raise BookError(f"{run.run_yaml} was changed while run {run.name} began; start it again")


def _not_begun(run: RunFolder) -> None:
    if run.started():
        raise BookError(
            f"run {run.name} has begun, so its hypothesis and predictions are sealed; say what you "
            "think now in a note"
        )


def _with_expectation(
    as_it_is: str, run: RunFolder, hypothesis: str | None, predictions: Sequence[str]
) -> str:
    from ruamel.yaml import YAML
    from ruamel.yaml.comments import CommentedSeq
    from ruamel.yaml.error import YAMLError
    from ruamel.yaml.util import load_yaml_guess_indent

    from tunebook.recipe.yaml_text import parse_yaml

    origin = f"runs/{run.name}/run.yaml"
    text = as_it_is.replace("\r\n", "\n")
    wanted = parse_yaml(text, origin).values
    try:
        _, indent, offset = load_yaml_guess_indent(text)
        yaml = YAML()
        yaml.preserve_quotes = True
        yaml.width = 1 << 20
        yaml.indent(sequence=indent or 2, offset=offset or 0)
        whole: Any = yaml.load(text)
        listed = CommentedSeq(predictions)
        listed.fa.set_flow_style()
        for tree, predict in ((whole, listed), (wanted, list(predictions))):
            if tree.get("notebook") is None:
                tree["notebook"] = {}
            tree["notebook"].update(hypothesis=hypothesis, predict=predict)
        out = io.StringIO()
        yaml.dump(whole, out)
    except (AttributeError, TypeError, YAMLError):
        raise _by_hand(origin) from None
    written = out.getvalue()
    if parse_yaml(written, origin).values != wanted:
        raise _by_hand(origin)
    return written.replace("\n", "\r\n") if text != as_it_is else written


def _by_hand(origin: str) -> RunFileError:
    return RunFileError(
        f"{origin} is written in a way that cannot be changed from here without changing more; "
        "set notebook.hypothesis and notebook.predict in an editor"
    )
