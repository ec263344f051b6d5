"""Tell a model's own files from what only looks like them: links out of its folder, pipes, devices.

What is read of a folder is copied into what is made of it and released, so a file of the user's
behind a link would be given to the world as the model's.
"""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

from tunebook.errors import ModelError
from tunebook.regular import is_regular

# Of weights the content decides: what is no safetensors is not loaded, so not copied.
_WEIGHTS = re.compile(r".+\.(safetensors|bin|pt|pth|ckpt)", re.DOTALL)
# What is loaded or copied. Its tests hold it against the names in transformers' own tokenizers.
_READ = re.compile(
    r"(config|generation_config|adapter_config|.+\.index)\.json"
    r"|.*(tokenizer|vocab).*|.+\.(model|jinja)|chat_template\.json"
    r"|(special_tokens_map|added_tokens|tekken|byte_maps|emoji|normalizer)\.json"
    r"|word_(pronunciation|shape)\.json|(merges|dict)\.txt|bpe\.codes"
    r"|README\.md|LICEN[SC]E.*",
    re.DOTALL,
)
_TEMPLATES = "additional_chat_templates"
_SAMPLE_BYTES = 512
_BLOB = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def refuse_what_is_not_its_own(folder: Path, whose: str) -> None:
    """Raise ModelError where what is read of a folder is not its own, or is no file.

    A link of weights may lead anywhere. One of any other file that is read has to stay in the
    folder, or lead to a file of a model in the hub's cache.
    """
    try:
        found = sorted(folder.iterdir())
        if (folder / _TEMPLATES).is_dir():
            found += [folder / _TEMPLATES, *sorted((folder / _TEMPLATES).iterdir())]
    except OSError as error:
        raise ModelError(f"{whose}: {folder} cannot be read: {error.strerror}") from None
    for path in found:
        if path.name != _TEMPLATES and not is_read(path.name):
            continue
        if not _WEIGHTS.fullmatch(path.name):
            refuse_link_out(path, folder, whose)
        if os.path.exists(path) and not os.path.isdir(path) and not is_regular(path):
            raise ModelError(
                f"{whose}: {path} is a pipe or a device and no file; put the file itself there, "
                "or fetch the model anew"
            )


def is_read(name: str) -> bool:
    """Tell whether a file of this name is loaded of a model's folder, or copied with it."""
    return bool(_WEIGHTS.fullmatch(name) or _READ.fullmatch(name))


def refuse_link_out(path: Path, folder: Path, whose: str) -> None:
    """Raise ModelError for a link by which a file would be copied that is not the folder's."""
    if not path.is_symlink() or _leads_nowhere(path):
        return
    leads, home = path.resolve(), folder.resolve()
    if leads.is_relative_to(home) or _is_blob(leads, home):
        return
    new = f"{home.name or 'model'}-files"
    raise ModelError(
        f"{whose}: {path} is a link out of its folder, to {leads}, which could come to be copied "
        f"into what is made of the model; if that is the model's own, "
        f"`{shlex.join(['cp', '-rL', str(folder), new])}` makes a folder without links, to be "
        "named instead"
    )


def _leads_nowhere(link: Path) -> bool:
    try:
        return not link.exists()
    except OSError:
        return False  # it may not be asked, and may be read all the same by somebody else


def _is_blob(path: Path, folder: Path) -> bool:
    """Tell whether a file is a blob of the hub's cache that a model's folder may link to.

    The cache has models--NAME/snapshots/COMMIT, whose files lead to models--NAME/blobs/HASH. What
    lies in there has that repository's blobs alone. Another folder may have been downloaded with
    links to the cache. `path` is resolved, so no folder of a stranger's can stand for the cache;
    and a hash is known to nobody who has not the file or its repository.
    """
    repository = path.parent.parent
    if path.parent.name != "blobs" or not repository.name.startswith("models--"):
        return False
    if not _BLOB.fullmatch(path.name) or not is_regular(path):
        return False
    own = _repository_of(folder)
    return own is None or own == repository


def _repository_of(folder: Path) -> Path | None:
    """Give the repository of the hub's cache that a folder lies in a snapshot of; None: in none."""
    for above in folder.parents:
        if above.name == "snapshots" and above.parent.name.startswith("models--"):
            return above.parent
    return None


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
