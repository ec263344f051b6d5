"""Make other people's runs runs of the book: history to read and compare, without weights."""

from __future__ import annotations

import hashlib
import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tunebook.book.atomic import storage_errors, write_text
from tunebook.book.events import EventWriter, read_events
from tunebook.book.index import run_summaries
from tunebook.book.places import MARK, RunFolder, create_book
from tunebook.errors import BookError, StorageError
from tunebook.imports.found import Found, ImportedRun
from tunebook.imports.read import read_file
from tunebook.recipe.load import write_values
from tunebook.records import Diagnosis, RunSummary, Verdict
from tunebook.regular import open_regular
from tunebook.watch.table import Final, judge_finals
from tunebook.workflows.notebook import build_notebook, read_page
from tunebook.workflows.verdicts import diagnose_run


@dataclass(frozen=True, slots=True)
class Imported:
    """What was imported, and what was found about it; `runs` are as the book has them now."""

    found: Found
    runs: tuple[RunSummary, ...]
    verdicts: Mapping[str, tuple[Verdict, ...]]
    sha256: str


def import_runs(
    path: Path,
    book: Path,
    *,
    name: str | None = None,
    columns: Mapping[str, str] | None = None,
) -> Imported:
    """Import every run of a file; a folder that is no book yet becomes one.

    `name` is the run's, or stands before the names where the file has several runs. Raises
    DataError for what cannot be read and BookError for names that are taken; then nothing is
    written.
    """
    found = read_file(path, columns)
    names = _names(found.runs, name)
    runs = [RunFolder(book, one) for one in names]
    if taken := [run.name for run in runs if run.path.exists()]:
        raise _taken(taken[0], path)
    digest = _digest(path)
    if not (book / MARK).is_file():
        create_book(book)
    source = {
        "file": str(path.resolve()),
        "format": found.format,
        "sha256": digest,
        "imported_at": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "columns": dict(found.columns),
    }
    made: list[RunFolder] = []
    try:
        for folder, run in zip(runs, found.runs, strict=True):
            _make_folder(folder, path)
            made.append(folder)
            _write_run(folder, run, source)
        verdicts = _judge(runs, found.runs)
        if found.words:
            index = book / "notebook.md"
            own = (read_page(book, index) or "").rstrip("\n")
            write_text(index, f"{own}\n\n## From {path.name}\n\n{found.words}\n".lstrip("\n"))
    except BaseException:
        for folder in made:  # another process may have made the others since
            shutil.rmtree(folder.path, ignore_errors=True)
        raise
    try:
        build_notebook(book)
    except StorageError as error:
        raise StorageError(
            f"{error}; what was imported is in the book, and `tunebook notebook build` writes its "
            "pages"
        ) from error
    known = {summary.name: summary for summary in run_summaries(book)}
    return Imported(found, tuple(known[run.name] for run in runs), verdicts, digest)


def _names(runs: Sequence[ImportedRun], name: str | None) -> list[str]:
    plain = [re.sub(r"[^A-Za-z0-9._-]+", "-", run.name).strip("-._") for run in runs]
    if name is not None and len(runs) == 1:
        return [name]
    if name is not None:
        plain = [f"{name}-{one or row}" for row, one in enumerate(plain, start=1)]
    elif "" in plain:
        row = plain.index("")
        raise BookError(
            f"run {row + 1} of the file is called {runs[row].name!r}, which has no letter or digit "
            "that the name of a run can have (A-Z, a-z, 0-9); --name NAME gives one"
        )
    twice = next((one for one in plain if plain.count(one) > 1), None)
    if twice is not None:
        raise BookError(f"two runs of the file would be called {twice}; rename one of them there")
    return plain


def _taken(name: str, path: Path) -> BookError:
    return BookError(
        f"the book has a run {name} already, and imported history is never written over; "
        f"`tunebook import {shlex.quote(str(path))} --name OTHER` imports it beside that"
    )


def _make_folder(folder: RunFolder, path: Path) -> None:
    with storage_errors(f"make the run {folder.name}", folder.book):
        try:
            folder.path.mkdir(parents=True)
        except FileExistsError:
            raise _taken(folder.name, path) from None


def _digest(path: Path) -> str:
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    digest = hashlib.sha256()
    for one in files:
        with open_regular(one) as file:
            digest.update(file.read())
    return digest.hexdigest()


def _write_run(folder: RunFolder, run: ImportedRun, source: Mapping[str, Any]) -> None:
    recipe: dict[str, Any] = {"name": folder.name}
    for key, value in run.settings.items():
        if value is not None:
            *above, last = key.split(".")
            holder = recipe
            for part in above:
                holder = holder.setdefault(part, {})
            holder[last] = value
    own = {
        "run": run.name,
        "not_given": [key for key, value in run.settings.items() if value is None],
        "other": dict(run.other),
    }
    reported = dict(run.reported)
    if "judge" in reported:
        # Judged together, as far as the file tells: only those of one file and column compare.
        reported["judge_settings"] = f"{source['sha256'][:8]}-{source['columns'].get('judge')}"
    resolved = {"recipe": recipe, "environment": {"imported": {**source, **own}}}
    write_text(folder.resolved_yaml, write_values(resolved))
    if run.words:
        write_text(folder.notebook_md, run.words + "\n")
    with EventWriter(folder, 1) as events:
        apart = [key for key in ("steps", "device") if key in reported]
        facts: dict[str, Any] = {key: reported.pop(key) for key in apart}
        events.write("facts", {**facts, "reported": reported})
        records: list[tuple[int, str, object]] = [(one.step, "step", one) for one in run.steps]
        records += [(one.step, "validation", one) for one in run.validations]
        for _, kind, record in sorted(records, key=lambda one: one[:2]):
            events.write(kind, record)
        state = {"state": "finished", "reason": f"imported from {Path(source['file']).name}"}
        events.write("state", state)


def _last_loss(run: ImportedRun) -> float | None:
    """Give the last held-out loss, of a row or of a curve without training losses."""
    return run.validations[-1].loss if run.validations else run.reported.get("val_loss")


def _judge(folders: Sequence[RunFolder], runs: Sequence[ImportedRun]) -> dict[str, Any]:
    """Find what curves and last losses tell, and write it down."""
    finals = {
        folder.name: Final(_last_loss(run), run.settings.get("model"))
        for folder, run in zip(folders, runs, strict=True)
        if not run.steps
    }
    coarse = judge_finals(finals)
    verdicts: dict[str, tuple[Verdict, ...]] = {}
    for folder, run in zip(folders, runs, strict=True):
        if run.steps:
            found = diagnose_run(folder, read_events(folder))
        else:
            known = (coarse[folder.name],) if folder.name in coarse else ()
            found = Diagnosis(None, known, ("divergence",) if known else (), {}, final=True)
        verdicts[folder.name] = found.verdicts
        with EventWriter(folder, 1) as events:
            events.write("verdicts", found)
    return verdicts
