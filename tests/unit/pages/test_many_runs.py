"""What is drawn of thousands of runs takes time with their number, not with its square."""

from __future__ import annotations

import random
import time

import pytest

from tunebook.book.lineage import Edge, Lineage, Node
from tunebook.pages.index_page import begun_and_waiting
from tunebook.pages.lineage import tree_lines
from tunebook.pages.sweep import draw_sweep
from tunebook.records import RunSummary

MANY = 4000
SECONDS = 8.0
"""Of a processor; a tenth of it is needed, and what grew with the square took several times it."""


def summaries(number: int) -> list[RunSummary]:
    """Make runs of a sweep in which nearly every value is another."""
    draw = random.Random(0)
    found = []
    for n in range(number):
        config: dict[str, object] = {f"fixed.{k}": k for k in range(70)}
        config |= {
            "train.learning_rate": 10 ** draw.uniform(-5, -3),
            "train.weight_decay": draw.random(),
            "train.warmup_steps": n * 7919 % 5003,
            "lora.rank": draw.choice([4, 8, 16]),
            "data.0.path": f"/data/{draw.randrange(2000)}.txt",
            "data.0.text": f"column {n}",
        }
        loss = 2 + draw.random()
        found.append(
            RunSummary(f"run-{n}", "finished", "m", "sft", "lora", val_loss=loss, config=config)
        )
    return found


def test_a_sweep_of_thousands_of_runs_is_drawn_in_seconds() -> None:
    runs = summaries(MANY)
    began = time.process_time()
    found = draw_sweep(runs, "val_loss", importance=False)
    assert time.process_time() - began < SECONDS / 2
    assert len(found.courses) == MANY
    assert "train.learning_rate" in found.varying
    assert {course.grade for course in found.courses} == {0, 1, 2, 3, 4}


def test_no_run_is_searched_among_all_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(one: RunSummary, other: object) -> bool:
        raise AssertionError(f"{one.name} was compared with another run")

    runs = summaries(50)
    monkeypatch.setattr(RunSummary, "__eq__", never)
    begun, waiting = begun_and_waiting(runs)
    assert (len(begun), waiting) == (50, [])


def test_a_chain_longer_than_the_stack_has_a_tree() -> None:
    names = [f"run_{n}" for n in range(3000)]
    edges = tuple(Edge(a, b, "weights") for a, b in zip(names, names[1:], strict=False))
    lineage = Lineage(tuple(Node(name, "run") for name in names), edges)
    began = time.process_time()
    lines = tree_lines(
        lineage, {name: RunSummary(name, "finished", None, None, None) for name in names}
    )
    assert lineage.around("run_1500") == lineage
    assert time.process_time() - began < SECONDS
    assert lines[0].startswith("run_0 ")
    assert "└─ run_2999" in lines[-1]
    assert lines[-1].endswith("weights of run_2998")
