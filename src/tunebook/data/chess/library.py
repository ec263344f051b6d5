"""Ask for python-chess, which is optional: it is GPL, and tunebook is not.

Every module here imports it inside the functions that use it, after asking.
"""

from __future__ import annotations

import importlib.util

from tunebook.errors import DataError


def require_chess() -> None:
    """Raise DataError when python-chess is not installed."""
    if importlib.util.find_spec("chess") is None:
        raise DataError(
            "chess games need python-chess, which is not installed; pip install 'tunebook[chess]'"
        )
