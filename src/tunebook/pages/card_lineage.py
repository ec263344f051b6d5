"""The part of a model card that says what the weights come from."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from tunebook.book.data_account import read_data
from tunebook.book.places import RunFolder
from tunebook.book.run_file import weight_parent
from tunebook.pages.markdown import code, escape, table
from tunebook.pages.run_page import PageSource
from tunebook.recipe.hub_path import EMBEDDED, HUB_PREFIX, may_be_hub_data
from tunebook.records import RunSummary
from tunebook.units import format_count, format_number

_HUB_MODEL = re.compile(r"^[\w.-]+/[\w.-]+(@[\w./-]+)?$")


@dataclass(frozen=True, slots=True)
class Ancestor:
    """A run that the weights went through; `weights` are those the next one began with.

    `summary` is None for a run that is no longer in the book.
    """

    name: str
    weights: str
    summary: RunSummary | None
    data: Mapping[str, Any]


def find_ancestors(source: PageSource, weights: str) -> tuple[Ancestor, ...]:
    """List the run itself and every run before it whose weights are in these."""
    found = [Ancestor(source.summary.name, weights, source.summary, source.data)]
    model = source.summary.model
    while (parent := weight_parent(model)) and parent[0] not in {one.name for one in found}:
        name, which = parent[0], parent[1] or "final"
        summary = source.runs.get(name)
        data = read_data(RunFolder(source.run.book, name)) if summary is not None else {}
        found.append(Ancestor(name, which, summary, data))
        if summary is None:
            break
        model = summary.model
    return tuple(found)


def root_model(ancestors: Sequence[Ancestor]) -> str | None:
    """Give the model that the first of all runs began with, as its recipe has it.

    None where that run is no longer there.
    """
    first = ancestors[-1].summary
    if first is None or weight_parent(first.model):
        return None
    model = first.config.get("model")
    return model if isinstance(model, str) else None


def public_name(model: str) -> str:
    """Name a model as others may know it: by its hub id, or the last name of its folder."""
    if model == EMBEDDED or _HUB_MODEL.match(model):
        return model
    return PurePosixPath(model).name or model


def on_hub(model: str) -> bool:
    """Tell whether others find a model by its name on the hub."""
    return model != EMBEDDED and bool(_HUB_MODEL.match(model))


def hub_data(path: str) -> tuple[str, str | None] | None:
    """Read `org/name` and revision off a source that is a data set of the hub, else None."""
    if not path.startswith(HUB_PREFIX) and not may_be_hub_data(path):
        return None
    name, _, revision = path.removeprefix(HUB_PREFIX).lstrip("/").partition("@")
    return name.partition(":")[0], revision.partition(":")[0] or None


def source_name(path: str) -> str:
    """Name a source as others may know it: its hub id, or the last name of a file or folder."""
    found = hub_data(path)
    return found[0] if found else PurePosixPath(path).name


def sources_of(data: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """List the sources of a data account; none where another hand wrote it otherwise."""
    return [source for source in data.get("sources") or [] if isinstance(source, Mapping)]


def write_lineage(ancestors: Sequence[Ancestor], base: str, base_hash: str | None) -> str:
    """Write every run that is in the weights, the newest first, and the model below them."""
    rows = [_row(one) for one in ancestors]
    rows.append([f"{code(base)}, the base", "", "", "", "", ""])
    header = ["run", "its weights", "trained", "on", "steps", "held-out loss, first to last"]
    lines = [
        "## Lineage\n",
        "From these weights back to the base; each run began with the weights of the next row.\n",
        table(header, rows, right=header[4:]),
    ]
    if base_hash:
        lines.append(f"What the run was trained from: sha256 of its weights {code(base_hash)}.\n")
    return "\n".join(lines)


def _row(one: Ancestor) -> list[str]:
    run = one.summary
    if run is None:
        return [code(one.name), one.weights, "not in the book any more", "", "", ""]
    names = ", ".join(escape(source_name(str(s.get("path")))) for s in sources_of(one.data))
    before, after = run.base_val_loss, run.val_loss
    loss = "not measured"
    if before is not None and after is not None:
        loss = f"{format_number(before)} to {format_number(after)}"
    trained = ", ".join(escape(word) for word in (run.stage, run.method) if word)
    steps = "unknown" if run.step is None else format_count(run.step)
    return [code(one.name), escape(one.weights), trained, names or "unknown", steps, loss]
