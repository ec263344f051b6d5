"""What every recipe's tests ask of its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tunebook.book.codec import to_plain
from tunebook.plan.result import plan_json
from tunebook.recipe.load import load_run_file
from tunebook.recipe.sweep import load_sweep
from tunebook.recipe.tree import Recipe
from tunebook.recipe.yaml_text import parse_yaml, read_text
from tunebook.workflows.plan import plan
from tunebook.workflows.sweep_checks import check_points, with_paths
from tunebook.workflows.to_plan import recipe_to_plan


def is_sweep(path: Path) -> bool:
    """Tell a sweep from a run file."""
    return "search" in parse_yaml(read_text(path), str(path)).values


def resolve(path: Path, book: Path) -> Recipe:
    """Resolve a run file, or all combinations of a sweep; raises what is wrong with it."""
    if is_sweep(path):
        found, _ = load_sweep(path)
        return check_points(with_paths(found, path.parent), str(path.parent / found.run), book)
    return load_run_file(path).recipe


def planned(path: Path, device: str, devices: int = 1) -> dict[str, Any]:
    """Plan a full run file for a device to be rented, as `tunebook plan --json` prints it."""
    accept = ["disk-too-small"]  # what is free here says nothing of the notebook's machine
    asked = recipe_to_plan(path, device=device, devices=devices, accept=accept)
    found: dict[str, Any] = to_plain(plan_json(plan(asked)))
    return found
