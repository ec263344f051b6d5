"""Write what the author expects into the run file of a run that has not begun."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunebook.book.atomic import alone, write_text
from tunebook.book.inside import is_inside, read_inside
from tunebook.book.places import RunFolder, open_run, page_lock
from tunebook.book.predictions import parse_prediction
from tunebook.book.run_file import read_own_yaml
from tunebook.errors import BookError, Busy, RunFileError

if TYPE_CHECKING:
    from tunebook.recipe.load import LoadedRecipe


@dataclass(frozen=True, slots=True)
class Expectation:
    """What the run file of a run that waits says; `file_hash` is of the whole file."""

    hypothesis: str | None
    predictions: tuple[str, ...]
    file_hash: str


def read_expectation(run: RunFolder) -> Expectation:
    """Read what is expected of a run off its run file, whatever the index knows of it."""
    # Not by the index: a form that is filled with what is not read yet would erase it.
    notebook = read_own_yaml(run, run.run_yaml).get("notebook")
    said = notebook if isinstance(notebook, dict) else {}
    hypothesis, predictions = said.get("hypothesis"), said.get("predict")
    return Expectation(
        hypothesis if isinstance(hypothesis, str) else None,
        tuple(map(str, predictions)) if isinstance(predictions, list) else (),
        _file_hash(run),
    )


def _file_hash(run: RunFolder) -> str:
    try:
        return hashlib.sha256(read_inside(run.book, run.run_yaml)).hexdigest()[:16]
    except OSError:
        return ""


def write_hypothesis(
    book: Path,
    name: str,
    hypothesis: str | None,
    predictions: Sequence[str],
    file_hash: str | None = None,
) -> Path:
    """Set `notebook.hypothesis` and `notebook.predict` in a run file and return the file.

    Everything else in it stays, comments too. BookError once the run has begun, RunFileError for a
    prediction that cannot be read, Busy where the file is not the one of `file_hash` any more.
    """
    run = open_run(book, name)
    _not_begun(run)
    for text in predictions:
        parse_prediction(text)
    from tunebook.recipe.yaml_text import read_text

    with alone(page_lock(book)):
        _not_begun(run)
        if file_hash is not None and file_hash != _file_hash(run):
            raise Busy(
                f"{run.run_yaml} was changed since this page was loaded; reload it, and write what "
                "you expect once more"
            )
        if not is_inside(book, run.run_yaml):
            raise RunFileError(f"{run.run_yaml} leads out of the book; put the file itself there")
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
