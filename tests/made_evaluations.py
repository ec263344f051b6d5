"""Evaluations and answers written by hand, so that tests of comparing need no model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tunebook.book.evaluations import open_log, write_result
from tunebook.book.places import RunFolder
from tunebook.records import Evaluation

LOSS = {"examples": "e1", "template": "qa", "window": 128, "stride": 128, "tokenizer": "t1"}


def make_evaluation(
    run: RunFolder,
    values: Sequence[float | None],
    kind: str = "loss",
    subject: str = "final",
    *,
    lines: Sequence[Mapping[str, object]] | None = None,
    unit: str = "points",
    **settings: Any,
) -> Evaluation:
    """Write an evaluation as a command does: a log with a line per item, and its sum."""
    said = {"weights": run.name, **(LOSS if kind == "loss" else {}), **settings}
    with open_log(run, kind, subject, said) as log:
        log.add(
            [
                {
                    "item_id": f"q#{i}",
                    "item_hash": f"h{i}",
                    "value": value,
                    "n_units": 1,
                    "bytes": 10,
                    "scored_hash": f"s{i}",
                    **(lines[i] if lines else {}),
                }
                for i, value in enumerate(values)
            ]
        )
    score = sum(v for v in values if v is not None) / len(values)
    found = Evaluation(kind, subject, unit, score, None, len(values), 0, "", said, {})
    return write_result(run, log.path, found)


def make_answers(
    run: RunFolder,
    texts: Sequence[str],
    subject: str = "final",
    *,
    lines: Sequence[Mapping[str, object]] | None = None,
    **settings: Any,
) -> str:
    """Write answers to questions 0, 1, 2 ...; gives the name that a judgement of them states."""
    said = {"weights": run.name, "template": "qa", **settings}
    with open_log(run, "answers", subject, said) as log:
        log.add(
            [
                {
                    "item_id": f"q#{i}",
                    "item_hash": f"h{i}",
                    "question": f"Question {i}?",
                    "text": text,
                    "ended": True,
                    **(lines[i] if lines else {}),
                }
                for i, text in enumerate(texts)
            ]
        )
    return log.path.stem
