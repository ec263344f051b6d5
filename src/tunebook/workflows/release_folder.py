"""A folder that was released: held against what was released, and taken up again."""

from __future__ import annotations

from pathlib import Path

from tunebook.book.checkpoints import MANIFEST
from tunebook.book.places import RunFolder, find_book, open_run
from tunebook.book.released import Checked, check_folder, find_record
from tunebook.book.releases import Release, read_releases
from tunebook.errors import BookError, UsageError
from tunebook.workflows.to_gguf import kind_of
from tunebook.workflows.weights import find_weights, weights_step


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
    name: str, out: Path, book: Path, *, form: str | None, weights: str, gguf: str | None = None
) -> Release | None:
    """Give the release of a run that lies at `out` already, checked; None where none is asked for.

    A push that failed is so tried again without releasing anew. `gguf` is the type of the GGUF file
    that is asked for. Raises ReleaseTampered where the folder is not as it was released, UsageError
    where `weights` are of another step now or its GGUF file is of another type.
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
    record = next((record for record in reversed(asked) if record.files == files), None)
    if record is not None:
        _refuse_stale(run, out, record)
        if gguf is not None:
            _refuse_other_gguf(out, record, gguf)
    return record


def _refuse_stale(run: RunFolder, out: Path, record: Release) -> None:
    """Raise UsageError where what is now called so is not what was released as it."""
    if record.weights not in ("best", "final"):
        return
    now = weights_step(run, find_weights(run, record.weights))
    if now != record.step:
        raise UsageError(
            f"{out} holds {record.weights} of step {record.step}, and {record.weights} is step "
            f"{now} now; name a new folder to release that"
        )


def _refuse_other_gguf(out: Path, record: Release, asked: str) -> None:
    there = None if record.gguf is None else record.gguf.type
    if there != kind_of(asked, record.precision):
        holds = "no GGUF file" if there is None else f"a GGUF file of type {there}"
        raise UsageError(
            f"{out} holds {holds}, and --gguf {asked} was asked for; name a new folder for it"
        )


def _is_form(release: Release, form: str | None) -> bool:
    """Tell whether a release is what a form asks for; whole weights have one form only."""
    return release.form in ("whole", form or "adapter")
