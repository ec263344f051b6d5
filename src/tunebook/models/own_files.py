"""Tell a model's own files from what only looks like them: links out of its folder, pipes, devices.

What is read of a folder is copied into what is made of it and released, so a file of the user's
behind a link would be given to the world as the model's.
"""

from __future__ import annotations

import re
from pathlib import Path

from tunebook.errors import ModelError
from tunebook.regular import is_regular

# Of weights the content decides: what is no safetensors is not loaded, so not copied.
_WEIGHTS = re.compile(r".+\.(safetensors|bin|pt|pth|ckpt)", re.DOTALL)
_READ = re.compile(
    r".+\.(json|safetensors|model|txt|jinja|bin|pt|pth|ckpt)|README\.md|LICEN[SC]E.*", re.DOTALL
)
_TEMPLATES = "additional_chat_templates"
_SAMPLE_BYTES = 512
_BLOB = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def refuse_what_is_not_its_own(folder: Path, whose: str) -> None:
    """Raise ModelError where what is read of a folder is not its own, or is no file.

    A link of weights may lead anywhere. One of any other file that is read has to stay in the
    folder, or lead to the hub's cache of the very repository that the folder is of.
    """
    try:
        found = sorted(folder.iterdir())
        if (folder / _TEMPLATES).is_dir():
            found += [folder / _TEMPLATES, *sorted((folder / _TEMPLATES).iterdir())]
    except OSError as error:
        raise ModelError(f"{whose}: {folder} cannot be read: {error.strerror}") from None
    for path in found:
        if path.name != _TEMPLATES and not _READ.fullmatch(path.name):
            continue
        if not _WEIGHTS.fullmatch(path.name):
            refuse_link_out(path, folder, whose)
        if path.exists() and not path.is_dir() and not is_regular(path):
            raise ModelError(
                f"{whose}: {path} is a pipe or a device and no file; put the file itself there, "
                "or fetch the model anew"
            )


def refuse_link_out(path: Path, folder: Path, whose: str) -> None:
    """Raise ModelError for a link by which a file would be copied that is not the folder's."""
    if not path.is_symlink() or not path.exists():
        return
    leads, home = path.resolve(), folder.resolve()
    if leads.is_relative_to(home) or _is_blob_of(leads, home):
        return
    raise ModelError(
        f"{whose}: {path} is a link out of its folder, to {leads}, and would be copied into what "
        "is made of the model; put the file itself there, or name the folder that it lies in"
    )


def _is_blob_of(path: Path, folder: Path) -> bool:
    """Tell whether a file is one of the hub's cache, of the repository that a folder is of.

    The cache has models--NAME/snapshots/COMMIT, whose files lead to models--NAME/blobs/HASH.
    """
    repository = folder.parent.parent
    if folder.parent.name != "snapshots" or not repository.name.startswith("models--"):
        return False
    return path.parent == repository / "blobs" and _BLOB.fullmatch(path.name) is not None


def something_else(path: Path) -> str | None:
    """Name what often lies in the place of a file that was to be fetched; None for anything else.

    A checkout without git-lfs leaves pointers, and a login or an error is saved as a web page.
    """
    try:
        with path.open("rb") as file:
            begins = file.read(_SAMPLE_BYTES).lstrip()
    except OSError:
        return None
    if begins.startswith(b"version https://git-lfs"):
        return "it is a pointer of git-lfs and not the file; `git lfs pull` fetches that"
    if begins[:15].lower().startswith((b"<!doctype html", b"<html")):
        return "it is a web page, as a failed download leaves it"
    return None if begins else "it is empty"
