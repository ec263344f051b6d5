"""Tell the ids of models and data sets from the paths of files."""

from __future__ import annotations

import re

HUB_PREFIX = "hub:"
EMBEDDED = "tunebook/tiny"
"""The model that comes with the package."""
_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?(:[\w.-]+)?")
_FILE_ENDING = re.compile(r"\.[a-z]{2,8}$")


def may_be_hub_data(path: str) -> bool:
    """Say whether a path could be `org/name[@revision][:split]`, and has no file's ending."""
    return _ID.fullmatch(path) is not None and _FILE_ENDING.search(path) is None
