"""What `tunebook convert` does with a model: pickled weights become safetensors in a new folder."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tunebook import __version__
from tunebook.book.atomic import free_bytes, storage_errors, sync_folder
from tunebook.book.checkpoints import clear_asides
from tunebook.errors import StorageError, TunebookError, UsageError
from tunebook.models.find import find_pickled_model
from tunebook.models.own_files import refuse_link_out
from tunebook.models.pickled import Pickled, find_pickled
from tunebook.models.screen import ADAPTER_CONFIG
from tunebook.regular import open_regular
from tunebook.units import format_bytes
from tunebook.workflows.ended import ended_by_signals
from tunebook.workflows.unpickling import Converted, convert_pickled

RECORD = "converted.json"
"""Where a converted folder says what it was made of."""
_SETTINGS = ("config.json", "generation_config.json", ADAPTER_CONFIG)
# The licence goes with the weights, and what is released of them asks for it.
_WORDS = ("README.md", "LICEN[SC]E*")


@dataclass(frozen=True, slots=True)
class ConvertedModel:
    """A folder of safetensors that was made of pickled weights; `notes` say what is odd with it."""

    folder: Path
    converted: Converted
    sources: dict[str, str]
    notes: tuple[str, ...]


def convert_weights(
    model: str,
    out: Path,
    *,
    isolated: bool = True,
    say: Callable[[str], None] = lambda _: None,
) -> ConvertedModel:
    """Convert a folder's or a hub model's pickled weights; what it was made of stays as it is.

    `out` is written aside and renamed, so that it is there whole or not at all. Raises UsageError
    where it is there already, where nothing is to be converted, or where the reading process cannot
    be isolated; ModelError for what is refused; StorageError for a full disk; RunEnded on SIGTERM.
    """
    if out.exists() or out.is_symlink():
        raise UsageError(f"{out} is there already; name another folder")
    folder = find_pickled_model(model)
    pickled = find_pickled(folder, model)
    ties, ties_note = _ties(folder, pickled)
    _refuse_full(out, pickled)
    with ended_by_signals(f"nothing is left at {out}"):
        made, sources = _write(model, folder, pickled, ties, out, isolated=isolated, say=say)
    return ConvertedModel(out, made, sources, (*ties_note, *_names_note(out, pickled)))


def _write(
    model: str,
    folder: Path,
    pickled: Pickled,
    ties: Mapping[str, str],
    out: Path,
    *,
    isolated: bool,
    say: Callable[[str], None],
) -> tuple[Converted, dict[str, str]]:
    """Write the new folder aside and rename it; gives the hash of each source, too."""
    sources = {path.name: _sha256(path) for path in pickled.files}
    aside = out.with_name(f".tmp-{out.name}-{os.getpid()}")
    clear_asides(out.parent, out.name)  # what a process that was killed has left
    with storage_errors(f"write {out}", out.parent):
        out.parent.mkdir(parents=True, exist_ok=True)
        aside.mkdir()
    try:
        made = convert_pickled(pickled, aside, ties, isolated=isolated, say=say)
        with storage_errors(f"write {out}", out.parent):
            _copy_beside(folder, aside)
            written = {name: _sha256(aside / name) for name in made.written}
            _write_record(aside, _origin(model, folder), sources, written, made)
            sync_folder(aside)
            os.rename(aside, out)
            sync_folder(out.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return made, sources


def _ties(folder: Path, pickled: Pickled) -> tuple[dict[str, str], tuple[str, ...]]:
    """Give what transformers makes of other weights of this architecture, by name."""
    if pickled.stem != "model":
        return {}, ()
    from tunebook.models.skeleton import build_skeleton, load_config

    try:
        causal = build_skeleton(load_config(str(folder)))
    except TunebookError as error:
        return {}, (f"tied weights are written as often as they are named: {error}",)
    tied: Mapping[str, str] = getattr(causal, "all_tied_weights_keys", None) or {}
    return dict(tied), ()


def _names_note(out: Path, pickled: Pickled) -> tuple[str, ...]:
    """Say where the weights are not those that the architecture asks for."""
    if pickled.stem != "model":
        return ()
    from tunebook.models.skeleton import build_skeleton, check_weights, load_config

    try:
        found = check_weights(str(out), build_skeleton(load_config(str(out))))
    except TunebookError:
        return ()  # the first note says it
    return () if found.message is None else (found.message,)


def _refuse_full(out: Path, pickled: Pickled) -> None:
    needs = sum(path.stat().st_size for path in pickled.files)
    try:
        free = free_bytes(out.absolute().parent)
    except OSError:
        return  # writing says it
    if needs > free:
        raise StorageError(
            f"{out} needs {format_bytes(needs)}, and {format_bytes(free)} are free there; free "
            "space, or name a folder on another disk"
        )


def _copy_beside(folder: Path, target: Path) -> None:
    """Copy what a model is beside its weights: settings, tokenizer, card and licence."""
    from tunebook.models.tokenizer import copy_tokenizer

    named = [folder / name for name in _SETTINGS]
    named += [path for pattern in _WORDS for path in sorted(folder.glob(pattern))]
    for path in named:
        if path.is_file():
            refuse_link_out(path, folder, f"model {str(folder)!r}")
            shutil.copyfile(path, target / path.name)
    copy_tokenizer(folder, target)
    # safetensors writes for its owner's eyes alone.
    settings = next(target / name for name in (*_SETTINGS, "") if (target / name).exists())
    for path in target.glob("*.safetensors"):
        if settings.is_file():
            shutil.copymode(settings, path)


def _origin(model: str, folder: Path) -> dict[str, str]:
    """Name what was converted; the hub's cache calls a folder by its commit."""
    if folder.parent.name == "snapshots":
        return {"model": model, "commit": folder.name}
    return {"model": model}


def _write_record(
    target: Path,
    origin: Mapping[str, str],
    sources: Mapping[str, str],
    written: Mapping[str, str],
    made: Converted,
) -> None:
    said = {
        "made_of": dict(origin),
        "by": f"tunebook {__version__}",
        "sources_sha256": dict(sources),
        "written_sha256": dict(written),
        "tensors": made.n_tensors,
        "bytes": made.n_bytes,
        "tied": made.tied,
        "left_out": made.left_out,
        "read_without_network": made.no_network,
        "read_without_programs_or_other_folders": made.kept_to_folders,
    }
    text = json.dumps(said, indent=2, ensure_ascii=True) + "\n"
    (target / RECORD).write_text(text, encoding="utf-8")


def _sha256(path: Path) -> str:
    with open_regular(path) as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
