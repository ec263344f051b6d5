from __future__ import annotations

import itertools
import random
import time

import pytest

from tunebook.book.lineage import Edge, Lineage, Node
from tunebook.pages.lineage_map import HEIGHT, Box, LineageMap, draw_lineage


def lineage_of(*edges: Edge, alone: tuple[str, ...] = ()) -> Lineage:
    names = dict.fromkeys(name for edge in edges for name in (edge.parent, edge.child))
    return Lineage(tuple(Node(name, "run") for name in (*names, *alone)), edges)


def at(drawn: LineageMap, name: str) -> Box:
    return next(box for box in drawn.boxes if box.node.name == name)


def overlapping(drawn: LineageMap) -> list[tuple[str, str]]:
    return [
        (a.node.name, b.node.name)
        for a, b in itertools.combinations(drawn.boxes, 2)
        if a.x < b.x + b.width and b.x < a.x + a.width and a.y < b.y + HEIGHT and b.y < a.y + HEIGHT
    ]


def random_lineage(seed: int, runs: int) -> Lineage:
    draw = random.Random(seed)
    names = [f"run_{number}" for number in range(runs)]
    edges = [
        Edge(draw.choice(names[:number]), name, draw.choice(["weights", "config", "resume"]))
        for number, name in enumerate(names[1:], 1)
        for _ in range(draw.choice([1, 1, 2]))
    ]
    return lineage_of(*dict.fromkeys(edges))


@pytest.mark.parametrize("seed", range(5))
def test_no_two_of_200_runs_meet_and_all_lie_on_the_sheet(seed: int) -> None:
    lineage = random_lineage(seed, 200)
    started = time.process_time()
    drawn = draw_lineage(lineage)
    assert time.process_time() - started < 1.0  # 0.1 on an idle machine
    assert len(drawn.boxes) == 200
    assert overlapping(drawn) == []
    assert all(box.x >= 0 and box.x + box.width <= drawn.width for box in drawn.boxes)
    assert all(box.y >= 0 and box.y + HEIGHT <= drawn.height for box in drawn.boxes)


def test_a_run_stands_right_of_everything_it_comes_from() -> None:
    drawn = draw_lineage(random_lineage(7, 60), every_edge=True)
    for line in drawn.lines:
        assert at(drawn, line.edge.parent).x < at(drawn, line.edge.child).x


def test_circles_are_drawn_and_closed_by_one_line() -> None:
    drawn = draw_lineage(
        lineage_of(
            Edge("a", "b", "config"), Edge("b", "c", "config"), Edge("c", "a", "weights"),
            Edge("d", "d", "weights"),
        )
    )  # fmt: skip
    assert overlapping(drawn) == []
    assert sorted((line.edge.parent, line.edge.child) for line in drawn.lines if line.back) == [
        ("c", "a"),
        ("d", "d"),
    ]


def test_a_chain_longer_than_the_stack_is_drawn_in_one_row() -> None:
    edges = (Edge(f"run_{n}", f"run_{n + 1}", "weights") for n in range(3000))
    assert len({box.y for box in draw_lineage(lineage_of(*edges)).boxes}) == 1


def test_weights_that_the_extended_run_began_with_are_told_once() -> None:
    lineage = lineage_of(
        Edge("base", "a", "weights", of_base=True),
        Edge("base", "b", "weights", of_base=True), Edge("a", "b", "config"),
        Edge("other", "c", "weights", of_base=True), Edge("a", "c", "config"),
    )  # fmt: skip
    drawn = draw_lineage(lineage)
    assert drawn.left_out == 1
    assert ("base", "b") not in {(line.edge.parent, line.edge.child) for line in drawn.lines}
    assert len(draw_lineage(lineage, every_edge=True).lines) == 5


def test_a_book_without_runs_is_an_empty_sheet() -> None:
    assert draw_lineage(Lineage((), ())).boxes == ()
