"""Expand the `~` of a path that a user wrote."""

from __future__ import annotations

from pathlib import Path

from tunebook.errors import UsageError


def expand_home(path: str) -> Path:
    """Put a home folder in the place of a leading `~`; UsageError when it is nobody's."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UsageError(
            f"{path}: {Path(path).parts[0]} is no user's home folder here; write the whole path"
        ) from None
