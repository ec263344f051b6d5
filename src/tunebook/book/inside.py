"""What stays in a book: nothing is deleted through a link, and nothing shown from behind one.

A book may come from a stranger, and a link in it may lead to any folder of whoever opens it. Only
`runs` as a whole may be one: that is how an owner puts a large book on another disk.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from tunebook.book.places import RunFolder
from tunebook.errors import BookError


def link_below(folder: Path, path: Path) -> Path | None:
    """Find the first link on the way from a folder to what is in it, the last part included."""
    at = folder
    for part in path.relative_to(folder).parts:
        at = at / part
        if at.is_symlink():
            return at
    return None


def refuse_linked(book: Path, path: Path) -> None:
    """Raise BookError when a folder of a book that is to be emptied is a link, or behind one."""
    if (link := link_below(book, path)) is not None:
        raise BookError(_sentence(book, link))


def refuse_linked_run(run: RunFolder) -> None:
    """Raise BookError when checkpoints of a run would be deleted through a link.

    `runs` itself may be one.
    """
    if (link := link_below(run.book / "runs", run.checkpoints)) is not None:
        raise BookError(_sentence(run.book, link))


def _sentence(book: Path, link: Path) -> str:
    try:
        leads_to = os.readlink(link)
    except OSError:
        leads_to = "another place"
    return (
        f"{link.relative_to(book)} is a link to {leads_to}, and tunebook deletes nothing behind a "
        "link; put a folder in its place"
    )


def inside(folder: Path, name: str | PurePosixPath) -> Path:
    """Join a name to a folder; BookError unless what it leads to lies in that folder.

    Gives the place without links, which need not be there.
    """
    base = folder.resolve()
    try:
        found = (base / name).resolve()
        # A link that leads to itself is resolved to itself.
        stays = found != base and found.is_relative_to(base) and not found.is_symlink()
    except (OSError, ValueError, RuntimeError):
        stays = False
    if not stays:
        raise BookError(f"`{name}` leads out of {folder}, so it is not shown; put a file there")
    return found


def in_run(run: RunFolder, name: str) -> Path:
    """Find a file of a run to show it; BookError when it, or the run, leads to another place."""
    place = inside(run.book / "runs", run.name)
    if place.parent != (run.book / "runs").resolve():
        raise BookError(f"runs/{run.name} leads into another run, so it is not shown")
    return inside(place, name)
