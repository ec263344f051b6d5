"""What licence a model or a data set says it has, in files that are here; never guessed.

Front matter of a card says it in the hub's own words. The text of a LICENSE file is quoted by its
first line and not matched to an identifier, but for one that it states itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunebook.regular import is_regular, open_regular, read_regular

CARD = "README.md"
_CONFIG = "config.json"
_TEXTS = ("LICENSE", "LICENCE", "LICENSE.txt", "LICENCE.txt", "LICENSE.md", "LICENCE.md", "COPYING")
_SPDX = re.compile(r"SPDX-License-Identifier:\s*([A-Za-z0-9.+-]+)")
_ID = re.compile(r"[a-z0-9][a-z0-9.+-]*")
_LARGEST_BYTES = 1_000_000
_QUOTED = 80


@dataclass(frozen=True, slots=True)
class Licence:
    """A stated licence: its identifier (apache-2.0), or the words that stand for one.

    `told_by` names the file that says so. `name` and `link` are what a card gives beside the
    identifier `other`.
    """

    identifier: str | None
    words: str
    told_by: str
    name: str | None = None
    link: str | None = None


def read_licence(folder: Path) -> Licence | None:
    """Read the licence that a folder's card, LICENSE file or config states; None without one."""
    return (
        _of_card(folder / CARD)
        or next(filter(None, (_of_text(folder / name) for name in _TEXTS)), None)
        or _of_config(folder / _CONFIG)
    )


def read_cached_licence(repo: str, kind: str, revision: str | None) -> Licence | None:
    """Read the licence that the local cache has of a hub model or dataset; nothing is fetched."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    for name in (CARD, *_TEXTS, _CONFIG):
        try:
            found = try_to_load_from_cache(repo, name, revision=revision or "main", repo_type=kind)
        except (HFValidationError, ValueError):
            return None
        if isinstance(found, str):
            return read_licence(Path(found).parent)
    return None


def _of_card(path: Path) -> Licence | None:
    stated = _front_matter(path).get("license")
    said = [str(one).strip() for one in (stated if isinstance(stated, list) else [stated]) if one]
    if not said or said == ["unknown"]:
        return None
    card = _front_matter(path)
    name, link = (_text(card.get(key)) for key in ("license_name", "license_link"))
    if len(said) == 1 and _ID.fullmatch(said[0].lower()):
        words = said[0] if name is None else f"{said[0]} ({name})"
        return Licence(said[0].lower(), words, path.name, name, link)
    return Licence(None, ", ".join(said), path.name, name, link)


def _front_matter(path: Path) -> Mapping[str, Any]:
    """Read the front matter of a card; empty for one that is not there or cannot be read."""
    from huggingface_hub import metadata_load

    try:
        if not is_regular(path) or path.stat().st_size > _LARGEST_BYTES:
            return {}
        found = metadata_load(path)
    except Exception:  # the parser passes on what any hand wrote into the file
        return {}
    return found if isinstance(found, dict) else {}


def _of_text(path: Path) -> Licence | None:
    try:
        with open_regular(path) as file:
            text = file.read(_LARGEST_BYTES).decode("utf-8", "replace")
    except OSError:
        return None
    if stated := _SPDX.search(text):
        return Licence(stated[1].lower(), stated[1], path.name)
    first = next((" ".join(line.split()) for line in text.splitlines() if line.strip()), None)
    if first is None:
        return None
    return Licence(None, f"“{first[:_QUOTED]}”", path.name)


def _of_config(path: Path) -> Licence | None:
    import orjson

    try:
        stated = _text(orjson.loads(read_regular(path)).get("license"))
    except (OSError, ValueError, AttributeError):
        return None
    if stated is None:
        return None
    known = _ID.fullmatch(stated.lower())
    return Licence(stated.lower() if known else None, stated, path.name)


def _text(value: object) -> str | None:
    return value.strip() if isinstance(value, str) and value.strip() else None
