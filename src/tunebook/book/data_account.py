"""What a run wrote down about its data, and how two such accounts differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from tunebook.book.inside import read_inside
from tunebook.book.places import RunFolder
from tunebook.units import format_count


def read_data(run: RunFolder) -> dict[str, Any]:
    """Read `data.json`; empty when there is none, or it is broken."""
    try:
        found = orjson.loads(read_inside(run.book, run.data_json))
    except (OSError, orjson.JSONDecodeError):
        return {}
    return found if isinstance(found, dict) else {}


def describe_changes(parent: str, earlier: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Say source by source how the data of a run differs from that of its parent."""
    old = {str(source["path"]): source for source in earlier["sources"]}
    new = {str(source["path"]): source for source in now["sources"]}
    changes = [f"{path}: not in {parent}" for path in new if path not in old]
    changes += [f"{path}: in {parent}, and no longer here" for path in old if path not in new]
    for path, source in new.items():
        if path in old and source["content_hash"] != old[path]["content_hash"]:
            then, here = (format_count(one["rows_in"]) for one in (old[path], source))
            changes.append(f"{path}: changed since {parent}, {then} rows then, {here} rows now")
    return changes
