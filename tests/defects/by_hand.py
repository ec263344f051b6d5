"""`tunebook plan` in a few lines, until the verb is there."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any


def subject_of(run_file: Path, cache: Path | None = None) -> Any:
    from tunebook.book.places import RunFolder, find_book
    from tunebook.data.prepare import prepare
    from tunebook.models.find import find_model
    from tunebook.models.tokenizer import load_tokenizer
    from tunebook.plan.devices import Device
    from tunebook.plan.subject import Subject
    from tunebook.plan.witness import read_witnesses
    from tunebook.step.horizon import batches_of_step, plan_horizon
    from tunebook.workflows.train import load_recipe

    book = find_book()
    recipe = load_recipe(run_file, (), book).recipe
    codec = load_tokenizer(recipe.model)
    cache = cache or RunFolder(book, recipe.name).cache_dir
    prepared = prepare(recipe, codec, cache, lambda _text: None)
    horizon = plan_horizon(recipe, prepared.train)
    steps = range(1, min(horizon.total_steps, 4) + 1)
    batches = tuple(b for s in steps for b in batches_of_step(prepared.train, horizon, s))
    config = json.loads((Path(find_model(recipe.model)) / "config.json").read_text())
    wanted = frozenset(i for b in batches for i in b.example_ids)
    return Subject(
        recipe=recipe,
        config=config,
        device=Device("CPU", "cpu", None, None, True, False, {}, True),
        precision="fp32",
        codec=codec,
        prepared=prepared,
        horizon=horizon,
        batches=batches,
        witnesses=read_witnesses(prepared, recipe, wanted),
    )


def plan_by_hand(run_file: Path) -> tuple[int, Any]:
    from tunebook.plan.checks import run_checks

    subject = subject_of(run_file)
    checked = run_checks(subject, subject.recipe.accept)
    return 3 * bool(checked.refusals), {"checks": [asdict(f) for f in checked.findings]}
