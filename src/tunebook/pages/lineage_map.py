"""Where runs come from, as a drawing: a column for each generation, a row for each line of runs.

A run stands in the row of the first that came of it, and every other child begins a row of its own,
so that no two ever meet. Edges over several columns run between the rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tunebook.book.lineage import Edge, EdgeKind, Lineage, Node
from tunebook.pages.lineage import RANK

HEIGHT = 60
"""Pixels of a node; all lengths here are pixels."""

MOST_LETTERS = 26
"""A longer name is cut; what it changed may be longer, for it is written smaller."""

MOST_SMALL_LETTERS = 34
_LETTER = 7.6
_SMALL_LETTER = 6.2
_NARROWEST = 156
_ROW = HEIGHT + 20
_GAP = 144
_PORT = 16
_EDGE = 10
_ROUND = 7
_BUS: dict[EdgeKind, int] = {"weights": 0, "config": 4, "resume": 8}
_FIRST, _BUSES, _BUS_APART, _LAST = 11, 4, 13, 74
_LANE_APART = 6


@dataclass(frozen=True, slots=True)
class Box:
    """Where a node is drawn; `x` and `y` are its upper left corner."""

    node: Node
    x: float
    y: float
    width: float


@dataclass(frozen=True, slots=True)
class Line:
    """How an edge is drawn: the path of an SVG, where its label ends. `back` closes a circle."""

    edge: Edge
    path: str
    label_x: float
    label_y: float
    back: bool


@dataclass(frozen=True, slots=True)
class LineageMap:
    """A drawing of a lineage; `left_out` counts edges that are the same for the run extended."""

    width: float
    height: float
    boxes: tuple[Box, ...]
    lines: tuple[Line, ...]
    left_out: int


def draw_lineage(
    lineage: Lineage, changes: Mapping[str, str] | None = None, *, every_edge: bool = False
) -> LineageMap:
    """Lay a lineage out from left to right; `changes` are words that stand in nodes.

    A run that extends another mostly begins with the same weights; such an edge is left out unless
    `every_edge`. Circles, which only files written by hand can have, are drawn and break nothing.
    """
    edges = list(lineage.edges) if every_edge else _told(lineage.edges)
    back = _closing_circles([node.name for node in lineage.nodes], edges)
    forward = [edge for number, edge in enumerate(edges) if number not in back]
    layers = _layers([node.name for node in lineage.nodes], forward)
    rows = _rows(lineage.nodes, forward)
    widths = _widths(lineage.nodes, layers, changes or {})
    left = [_EDGE + sum(widths[:i]) + _GAP * i for i in range(len(widths))]
    boxes = {
        node.name: Box(
            node,
            left[layers[node.name]],
            _EDGE + _ROW * rows[node.name] + (_ROW - HEIGHT) / 2,
            widths[layers[node.name]],
        )
        for node in lineage.nodes
    }
    return LineageMap(
        width=(left[-1] + widths[-1] if widths else 0) + _EDGE + (_GAP / 2 if back else 0),
        height=_ROW * (max(rows.values(), default=-1) + 1) + 2 * _EDGE,
        boxes=tuple(boxes.values()),
        lines=tuple(_lines(edges, back, boxes, layers)),
        left_out=len(lineage.edges) - len(edges),
    )


def _told(edges: Sequence[Edge]) -> list[Edge]:
    """Leave out weights that the run extended began with as well."""
    begun = {(e.child, e.parent, e.which) for e in edges if e.kind == "weights"}
    extended = {e.child: e.parent for e in edges if e.kind == "config"}
    return [
        edge
        for edge in edges
        if edge.kind != "weights"
        or (extended.get(edge.child), edge.parent, edge.which) not in begun
    ]


def _closing_circles(names: Sequence[str], edges: Sequence[Edge]) -> set[int]:
    """Find the edges, by number, without which there is no circle."""
    out: dict[str, list[int]] = {name: [] for name in names}
    for at, edge in enumerate(edges):
        out[edge.parent].append(at)
    closing: set[int] = set()
    done: set[str] = set()
    for root in names:
        # By hand, not by recursion: a chain of runs may be longer than Python's stack.
        path, waiting = [root], [iter(out[root])]
        on_path = {root}
        while waiting and root not in done:
            number = next(waiting[-1], None)
            if number is None:
                done.add(path[-1])
                on_path.discard(path.pop())
                waiting.pop()
            elif (child := edges[number].child) in on_path:
                closing.add(number)
            elif child not in done:
                path.append(child)
                on_path.add(child)
                waiting.append(iter(out[child]))
    return closing


def _layers(names: Sequence[str], edges: Sequence[Edge]) -> dict[str, int]:
    """Count generations: a run stands right of everything that it comes from."""
    left = dict.fromkeys(names, 0)
    below: dict[str, list[str]] = {name: [] for name in names}
    for edge in edges:
        left[edge.child] += 1
        below[edge.parent].append(edge.child)
    layers = dict.fromkeys(names, 0)
    ready = [name for name in names if not left[name]]
    while ready:
        name = ready.pop()
        for child in below[name]:
            layers[child] = max(layers[child], layers[name] + 1)
            left[child] -= 1
            if not left[child]:
                ready.append(child)
    return layers


def _rows(nodes: Sequence[Node], edges: Sequence[Edge]) -> dict[str, int]:
    above: dict[str, str] = {}
    for edge in sorted(edges, key=lambda edge: RANK[edge.kind]):
        above.setdefault(edge.child, edge.parent)
    below: dict[str, list[str]] = {}
    for node in nodes:
        below.setdefault(above.get(node.name, ""), []).append(node.name)
    rows: dict[str, int] = {}
    row = 0
    waiting = below.get("", [])[::-1]
    while waiting:
        name = waiting.pop()
        rows[name] = row
        children = below.get(name, [])
        waiting += children[::-1]
        row += not children
    return rows


def _widths(
    nodes: Sequence[Node], layers: Mapping[str, int], changes: Mapping[str, str]
) -> list[float]:
    widths = [float(_NARROWEST)] * (max(layers.values(), default=-1) + 1)
    for node in nodes:
        name = min(len(node.name), MOST_LETTERS) * _LETTER
        change = min(len(changes.get(node.name, "")), MOST_SMALL_LETTERS) * _SMALL_LETTER
        widths[layers[node.name]] = max(widths[layers[node.name]], max(name, change) + 26)
    return widths


def _lines(
    edges: Sequence[Edge], back: set[int], boxes: dict[str, Box], layers: dict[str, int]
) -> list[Line]:
    arriving: dict[str, list[int]] = {}
    for number, edge in enumerate(edges):
        arriving.setdefault(edge.child, []).append(number)
    # Parents of one column go down beside each other, so that their lines can be told apart.
    beside: dict[int, dict[str, int]] = {}
    for edge in edges:
        column = beside.setdefault(layers[edge.parent], {})
        column.setdefault(edge.parent, len(column) % _BUSES)
    lines = []
    for number, edge in enumerate(edges):
        ports = arriving[edge.child]
        apart = min(_PORT, (HEIGHT - 10) / len(ports))
        port = ports.index(number) - (len(ports) - 1) / 2
        start, end = boxes[edge.parent], boxes[edge.child]
        x1, y1 = start.x + start.width, start.y + HEIGHT / 2
        x2, y2 = end.x, end.y + HEIGHT / 2 + port * apart
        bus = x1 + _FIRST + _BUS[edge.kind]
        bus += beside[layers[edge.parent]][edge.parent] * _BUS_APART
        neighbours = layers[edge.child] == layers[edge.parent] + 1
        lane_apart = min(_LANE_APART, (_ROW - HEIGHT - 4) / len(ports))
        lane = None if neighbours else end.y - (_ROW - HEIGHT) / 2 + port * lane_apart
        path = _path(x1, y1, x2, y2, bus, lane)
        lines.append(Line(edge, path, x2 - 9, y2 - 4, number in back))
    return lines


def _path(x1: float, y1: float, x2: float, y2: float, bus: float, lane: float | None) -> str:
    """Draw a line down a `bus`; where other columns lie between, along a `lane` free of nodes."""
    turns = [(x1, y1), (bus, y1)]
    if lane is not None:
        turns += [(bus, lane), (x2 - _LAST, lane), (x2 - _LAST, y2)]
    else:
        turns += [(bus, y2)]
    turns.append((x2, y2))
    path = f"M{x1:g} {y1:g}"
    for before, here, after in zip(turns, turns[1:], turns[2:], strict=False):
        start, stop = _towards(here, before), _towards(here, after)
        path += f"L{start[0]:g} {start[1]:g}Q{here[0]:g} {here[1]:g} {stop[0]:g} {stop[1]:g}"
    return path + f"L{x2:g} {y2:g}"


def _towards(here: tuple[float, float], there: tuple[float, float]) -> tuple[float, float]:
    """Go from a corner as far as it is rounded, at most half the way."""
    far = abs(there[0] - here[0]) + abs(there[1] - here[1])
    part = min(_ROUND, far / 2) / far if far else 0.0
    return here[0] + (there[0] - here[0]) * part, here[1] + (there[1] - here[1]) * part
