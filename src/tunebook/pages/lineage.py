"""Where runs come from, as a tree for a terminal and as Mermaid text for a page."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import PurePath

from tunebook.book.lineage import Edge, Lineage
from tunebook.pages.table import cell_text, changed_columns, column_value
from tunebook.records import RunSummary
from tunebook.units import format_number

_OWN = ("notebook.", "name", "extends", "model", "accept", "report_to")
_BY_STAGE = ("packing", "overlong", "train_on")
_ARROWS = {"weights": "-->", "config": "-.->", "resume": "==>"}
RANK = {"resume": 0, "config": 1, "weights": 2}
"""In a tree every run stands once: below the run it was made like, else below its weights."""


def overridden(run: RunSummary, runs: Mapping[str, RunSummary]) -> dict[str, object]:
    """Give the settings in which a run differs from the run it extends, sources as file names."""
    keys = sorted(key for key in run.config if not key.startswith(_OWN))
    changed = changed_columns(run, keys, runs)
    if "stage" in changed:  # these follow from it where nobody says otherwise
        changed -= set(_BY_STAGE)
    found: dict[str, object] = {
        key: column_value(run, key) for key in sorted(changed) if not key.startswith("data.")
    }
    if len(found) < len(changed):
        found["data"] = [
            PurePath(str(value)).name
            for key, value in sorted(run.config.items())
            if key.startswith("data.") and key.endswith(".path")
        ]
    return found


def setting_words(settings: Mapping[str, object]) -> str:
    """Write settings as `learning_rate=5e-05, stage=cpt, epochs unset`."""
    texts = ((key.rpartition(".")[2], cell_text(key, value)) for key, value in settings.items())
    return ", ".join(f"{key}={text}" if text else f"{key} unset" for key, text in texts)


def edge_words(edge: Edge, runs: Mapping[str, RunSummary]) -> str:
    """Say what one edge means for the run it leads to."""
    if edge.kind == "resume":
        return f"goes on from {edge.parent}, {edge.which}"
    if edge.kind == "weights":
        return f"weights of {edge.parent}" + (f", {edge.which}" if edge.which else "")
    changed = setting_words(overridden(runs[edge.child], runs)) if edge.child in runs else ""
    return f"extends {edge.parent}" + (f" with {changed}" if changed else "")


def tree_lines(
    lineage: Lineage, runs: Mapping[str, RunSummary], width: int | None = None
) -> list[str]:
    """Draw runs below what they come from, with what each takes and what it changes.

    `width` folds what is said of a run under itself, None leaves it whole.
    """
    above: dict[str, str] = {}
    for edge in sorted(lineage.edges, key=lambda edge: RANK[edge.kind]):
        if not _leads_to(above, edge.parent, edge.child):
            above.setdefault(edge.child, edge.parent)
    # A run file may name its model "", which is a node like others and not where the tree begins.
    below: dict[str | None, list[str]] = {}
    for node in lineage.nodes:
        below.setdefault(above.get(node.name), []).append(node.name)

    rows: list[tuple[str, str, str]] = []
    # By a stack of its own: a chain of runs may be longer than Python's.
    left_to_draw = [(root, "", True, 0) for root in reversed(below.get(None, []))]
    while left_to_draw:
        name, indent, last, depth = left_to_draw.pop()
        edge_sign = "" if depth == 0 else "└─ " if last else "├─ "
        children = below.get(name, [])
        inner = indent if depth == 0 else indent + ("   " if last else "│  ")
        note = _note(lineage, name, runs)
        rows.append((f"{indent}{edge_sign}{name}", inner + "│" * bool(children), note))
        for number, child in reversed(list(enumerate(children, 1))):
            left_to_draw.append((child, inner, number == len(children), depth + 1))
    column = max((len(left) for left, _, _ in rows), default=0) + 2
    lines = []
    for left, under, note in rows:
        folded = [note]
        if width is not None:
            folded = textwrap.wrap(
                note, max(width - column, 30), break_long_words=False, break_on_hyphens=False
            )
        for number, text in enumerate(folded):
            lines.append(f"{under if number else left:<{column}}{text}".rstrip())
    return lines


def _leads_to(above: Mapping[str, str], name: str, to: str) -> bool:
    while name != to and name in above:
        name = above[name]
    return name == to


def _note(lineage: Lineage, name: str, runs: Mapping[str, RunSummary]) -> str:
    run = runs.get(name)
    if run is None:
        return "base model" if lineage.kind_of(name) == "base" else "not in this book"
    loss = f"val_loss {format_number(run.val_loss)}" if run.val_loss is not None else ""
    words = [run.state, loss, *(edge_words(edge, runs) for edge in lineage.parents(name))]
    return "; ".join(word for word in words if word)


def mermaid(lineage: Lineage) -> str:
    """Write the graph in the text form of Mermaid, which renders on most pages of Markdown."""
    ids = {node.name: f"n{number}" for number, node in enumerate(lineage.nodes)}
    lines = ["graph TD"]
    for node in lineage.nodes:
        left, right = ("[", "]") if node.kind == "run" else ("([", "])")
        lines.append(f"  {ids[node.name]}{left}{_quoted(node.name)}{right}")
    for edge in lineage.edges:
        label = f"{edge.kind}, {edge.which}" if edge.which else edge.kind
        lines.append(
            f"  {ids[edge.parent]} {_ARROWS[edge.kind]}|{_quoted(label)}| {ids[edge.child]}"
        )
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return '"' + text.replace("&", "#amp;").replace('"', "#quot;").replace("<", "#lt;") + '"'


def write_lineage(name: str, lineage: Lineage, runs: Mapping[str, RunSummary]) -> str:
    """Write the section of a run's page that says what it comes from, and what came from it."""
    sentences = [f"- {edge_words(edge, runs)}" for edge in lineage.parents(name)]
    children = lineage.children(name)
    sentences += [
        f"- [{edge.child}](../{edge.child}/notebook.md) {edge_words(edge, runs)}"
        for edge in children
    ]
    if not children and all(edge.of_base for edge in lineage.parents(name)):
        return ""
    return "## Lineage\n\n" + "\n".join(sentences) + "\n"
