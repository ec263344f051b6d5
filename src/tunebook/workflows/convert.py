"""What `tunebook convert` does: a run file of axolotl or TRL becomes one of tunebook."""

from __future__ import annotations

import glob
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tunebook.book.atomic import storage_errors, write_text
from tunebook.errors import MALFORMED, RunFileError, UsageError, first_line
from tunebook.imports.run_files.axolotl import read_axolotl
from tunebook.imports.run_files.foreign import Foreign, nested
from tunebook.imports.run_files.trl import read_trl
from tunebook.recipe.load import recipe_from_mapping, write_values
from tunebook.recipe.yaml_text import parse_yaml, read_text

_TOOLS: dict[str, tuple[str, Callable[[Foreign, int], None]]] = {
    "axolotl": ("base_model", read_axolotl),
    "trl": ("model_name_or_path", read_trl),
}
"""Each tool with the key that only its files have."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """A run file that was made of another tool's, and what became of each key of that."""

    tool: str
    text: str
    understood: dict[str, str]
    left_out: dict[str, str]
    notes: tuple[str, ...]


def convert(
    path: Path,
    *,
    tool: str | None = None,
    name: str | None = None,
    devices: int = 1,
    without: Sequence[str] = (),
    out: Path | None = None,
) -> Conversion:
    """Read another tool's run file; with `out` the run file is written there.

    `devices` is how many it ran on, `without` names keys that the user gives up. Raises
    RunFileError for a file that is none of theirs, or has a key that cannot be translated;
    UsageError for a file that is there already. Then nothing is written.
    """
    if out is not None and out.exists():
        raise UsageError(f"{out} is there already; name another file")
    text = parse_yaml(read_text(path), str(path))
    if not isinstance(text.values, dict):
        raise RunFileError(f"{path}: this is no run file: it has no keys")
    tool = tool or _tool_of(path, text.values)
    file = Foreign(text.values)
    try:
        file.drop(without)
    except ValueError as error:
        raise UsageError(f"--without {error}: {path} has no such key") from None
    try:
        _TOOLS[tool][1](file, devices)
    except MALFORMED as error:
        raise RunFileError(
            f"{path}: a value is not of the kind that its key takes in {tool} "
            f"({first_line(error)}); correct it there"
        ) from None
    file.close()
    if file.refused:
        raise RunFileError(_refusal(file, text.at))
    file.ours["name"] = name or _slug(path.stem)
    values = {"name": file.ours.pop("name"), **nested(file.ours)}
    folder = (out or path).parent
    _check_paths(values, path.parent, folder)
    recipe_from_mapping(values, f"{path}, as a run file", folder)
    written = f"# Made of {path.name}, a run file of {tool}, by tunebook convert.\n"
    written += write_values(values)
    if out is not None:
        with storage_errors(f"write {out}", out.parent):
            out.parent.mkdir(parents=True, exist_ok=True)
            write_text(out, written)
    return Conversion(tool, written, file.understood, file.left_out, tuple(file.notes))


def _tool_of(path: Path, values: dict[str, object]) -> str:
    found = [tool for tool, (key, _) in _TOOLS.items() if key in values]
    if len(found) == 1:
        return found[0]
    if "stage" in values and "finetuning_type" in values:
        raise RunFileError(
            f"{path}: this is a run file of LLaMA-Factory, which is not converted; axolotl's and "
            "TRL's are"
        )
    keys = " or ".join(f"`{key}` ({tool})" for tool, (key, _) in _TOOLS.items())
    raise RunFileError(
        f"{path}: this is no run file of axolotl or TRL: it has no {keys}; say --from where it is "
        "one all the same"
    )


def _refusal(file: Foreign, at: Callable[[str], str]) -> str:
    """Say all keys that cannot be translated, each with its line."""
    said = []
    for key, why in file.refused.items():
        where = at(key).rpartition(":")[2] if key in file else ""
        line = f"line {where}: " if where.isdigit() else ""
        said.append(f"{line}`{file.shown(key) if key in file else key}`: {why}")
    n = len(said)
    keys = f"{n} key{'s' * (n > 1)} cannot be translated"
    return f"{at('')}: {keys}, --without KEY gives one up; " + "; ".join(said)


def _check_paths(values: dict[str, object], theirs: Path, ours: Path) -> None:
    """Let paths count from where the run file will lie, where they name files that are there."""
    if theirs.absolute() == ours.absolute():
        return
    holders = [*(values.get("data") or []), values.get("validation")]  # type: ignore[misc]
    for holder in holders:
        if isinstance(holder, dict) and isinstance(holder.get("path"), str):
            holder["path"] = _counted_from(theirs, holder["path"])
    model = values.get("model")
    if isinstance(model, str) and (theirs / model).is_dir():
        values["model"] = str((theirs / model).resolve())


def _counted_from(folder: Path, path: str) -> str:
    """Give a file, folder or glob that is there from the root on, and all else as it is."""
    if (folder / path).exists():
        return str((folder / path).resolve())
    # Its folder may have signs of a pattern in its own name, and means them as they are.
    pattern = str(Path(glob.escape(str(folder.resolve())), path))
    return pattern if glob.glob(pattern, recursive=True) else path


def _slug(stem: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-.") or "converted"
