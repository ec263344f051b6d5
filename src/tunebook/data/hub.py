"""Fetch a data set from the Hugging Face hub into its cache, and give the files it is kept in."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunebook.errors import DataError, first_line
from tunebook.recipe.hub_path import HUB_PREFIX

# For datasets any other name is that of a folder here, or `text` for all that lies in this one.
_NAME = r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*"
_ID = re.compile(rf"(?P<id>{_NAME})(@(?P<revision>[^:]+))?(:(?P<split>.+))?")


@dataclass(frozen=True, slots=True)
class HubData:
    """A split of a data set: its name, and the Arrow files that hold its rows in order."""

    name: str
    files: tuple[Path, ...]


def fetch_hub_data(path: str) -> HubData:
    """Fetch `[hub:]org/name[@revision][:split]`, by default split train.

    Raises DataError when `datasets` is not installed, the hub cannot be reached, it has no such
    data set or split, or a folder here has that name.
    """
    stated = path.removeprefix(HUB_PREFIX).lstrip("/")
    found = _ID.fullmatch(stated)
    if found is None or "[" in stated:
        raise DataError(
            f"{path} is no data set of the hub; write hub:org/name, hub:org/name@revision or "
            "hub:org/name:split, and take a part of a split with `sample:`"
        )
    if os.path.lexists(found["id"]):
        raise DataError(
            f"{path}: a folder {found['id']} lies in the folder you are in, and datasets would "
            "read that in the place of the hub's; call the command from another folder"
        )
    split = found["split"] or "train"
    data = _load(path, found["id"], found["revision"], split)
    files = tuple(Path(entry["filename"]) for entry in data.cache_files)
    if not files:
        raise DataError(f"{path}: split {split} is not kept in files; give it as .parquet")
    return HubData(found["id"].rpartition("/")[2], files)


def _load(path: str, name: str, revision: str | None, split: str) -> Any:
    start = "" if path.startswith(HUB_PREFIX) else "there is no file or folder of that name, and "
    try:
        import datasets
    except ImportError:
        raise DataError(
            f"{path}: {start}reading a data set of the hub needs datasets; pip install "
            "'tunebook[hub]'"
        ) from None
    try:
        return datasets.load_dataset(name, revision=revision, split=split)
    except ConnectionError as error:
        raise DataError(
            f"{path}: {start}the hub cannot be reached ({first_line(error).rstrip('.')}); "
            "check the network, unset HF_HUB_OFFLINE if it is set, or give a file or folder"
        ) from None
    except Exception as error:  # datasets passes on what any of its readers raises
        raise DataError(
            f"{path}: {start}the hub's data set cannot be read: {first_line(error).rstrip('.')}; "
            "check its name, revision and split, or set HF_TOKEN if it is private"
        ) from None
