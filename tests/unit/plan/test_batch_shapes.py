"""The micro-batches that a plan counts are those that a run trains."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tunebook.data.batches import collate
from tunebook.plan.batch_shapes import lengths_of_run, sizes_of_run
from tunebook.plan.subject import Subject
from tunebook.step.horizon import batches_of_step, plan_horizon


@pytest.mark.parametrize("packing", [False, True])
def test_the_longest_micro_batch_of_the_plan_is_the_longest_that_is_trained(
    subject_of: Callable[..., Subject], tmp_path: Path, packing: bool
) -> None:
    rows = [{"instruction": f"Say {i}.", "output": "word " * (1 + i * 7 % 23)} for i in range(61)]
    source = tmp_path / "rows.json"
    source.write_text(json.dumps(rows))
    train = {"effective_batch_size": 8, "micro_batch_size": 2, "epochs": 3}
    subject = subject_of({"path": str(source)}, packing=packing, train=train)
    assert subject.prepared is not None
    horizon = plan_horizon(subject.recipe, subject.prepared.train)
    lengths = lengths_of_run(subject.prepared, horizon)
    sizes = sizes_of_run(subject.prepared, horizon, lengths, 2, 512)
    steps = range(1, horizon.total_steps + 1)
    batches = [b for s in steps for b in batches_of_step(subject.prepared.train, horizon, s)]
    longest = max(batches, key=lambda batch: len(batch.ids))
    assert sum(sizes.longest.lengths) == len(longest.ids)
    tried_out = [e for row in sizes.longest_rows for e in subject.prepared.train.row(row)]
    assert collate(tried_out).ids.tolist() in [batch.ids.tolist() for batch in batches]
    assert sorted(sizes.longest.lengths) == sorted(len(e.tokens.ids) for e in tried_out)
    if not packing:
        in_order = np.add.reduceat(lengths, np.arange(0, horizon.total_rows, 2))
        assert len(longest.ids) < in_order.max()
