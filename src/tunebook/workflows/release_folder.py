"""A folder that was released: held against what was released, and taken up again."""

from __future__ import annotations

from pathlib import Path

from tunebook.book.checkpoints import MANIFEST
from tunebook.book.places import find_book, open_run
from tunebook.book.released import Checked, check_folder, find_record
from tunebook.book.releases import Release, read_releases
from tunebook.errors import BookError


def check_release(folder: Path, run: str | None = None) -> Checked:
    """Hold a released folder against its manifest, and against the record of its run.

    The record is looked for in the book of the working directory, else in that around the folder;
    `run` names whose it has to be. Raises ReleaseTampered for a folder that is not as it was,
    BookError where `run` is in no book.
    """
    book = _book_of(folder, must=run is not None)
    whose = open_run(book, run) if book is not None and run is not None else None
    found = check_folder(folder)
    if book is None:
        return found
    record = find_record(folder, found.files, book, whose)
    return Checked(found.files, found.total_bytes, record)


def _book_of(folder: Path, *, must: bool) -> Path | None:
    try:
        return find_book()
    except BookError as error:
        try:
            return find_book(folder)
        except BookError:
            if must:
                raise error from None
            return None


def released_before(
    name: str, out: Path, book: Path, *, form: str | None, weights: str
) -> Release | None:
    """Give the release of a run that lies at `out` already, checked; None where none is asked for.

    A push that failed is so tried again without releasing anew. Raises
    ReleaseTampered where the folder is not as it was released.
    """
    run = open_run(book, name)
    here = out.resolve()
    # A record names a folder outside of the book by its last name alone.
    known = [r for r in read_releases(run) if (book / r.to).resolve() == here or r.to == out.name]
    asked = [r for r in known if r.weights == weights and _is_form(r, form)]
    if not asked or not (out / MANIFEST).is_file():
        return None
    files = check_folder(out).files
    find_record(out, files, book, run)
    return next((record for record in reversed(asked) if record.files == files), None)


def _is_form(release: Release, form: str | None) -> bool:
    """Tell whether a release is what a form asks for; whole weights have one form only."""
    return release.form in ("whole", form or "adapter")
