"""tunebook as a contender: the product's own preparation, plan, loop and records, in a book."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cases import Work, recipe_of
from record import package_versions


def train(kind: str, work: Work, options: dict[str, Any], turns: Any) -> None:
    from tunebook.book.events import EventWriter, next_attempt, read_events
    from tunebook.book.places import create_book
    from tunebook.train.loop import training_steps
    from tunebook.workflows import before, findings
    from tunebook.workflows.train import load_recipe, start_run

    method = options.pop("method", work.case.method)
    if method != "full":
        import peft  # noqa: F401
    if method == "qlora":
        import bitsandbytes  # noqa: F401
    overrides = [f"{key}={json.dumps(value)}" for key, value in options.items()]
    book = create_book(Path(work.book))
    folder = start_run(book, load_recipe({**recipe_of(work), "method": method}, overrides, book))
    events = EventWriter(folder, next_attempt(folder))
    turns.model_comes()
    run = before.Run(folder, events, lambda: None)
    events.write("state", {"state": "running", "step": 0})
    run.before = read_events(folder)
    before.record_start(run, None)
    before.prepare_data(run, lambda: None, 0)
    before.plan_run(run)
    before.make_training(run)
    before.describe(run)
    _refuse_other_rows(run.training.data, work)
    settings = {**options, "precision": before.precision_of(run), "micro": run.micro_batch_size}
    turns.ready(settings, package_versions("torch", "transformers", "peft"))
    for record in training_steps(run.training, 1):
        events.write("step", record)
        findings.look_at_step(run, record)
        turns.done(record.loss, record.target_tokens)


def _refuse_other_rows(data: Any, work: Work) -> None:
    """Hold the run's own rows against the file that the peers read."""
    batch = work.case.batch
    for step, rows in enumerate(work.step_rows()[: work.case.steps]):
        for place, row in enumerate(rows):
            [example] = data.row(step * batch + place)
            own = (list(example.tokens.ids), [int(flag) for flag in example.tokens.target])
            if own != (row["ids"], row["target"]):
                raise SystemExit(f"row {step * batch + place} is not the one of the file")
