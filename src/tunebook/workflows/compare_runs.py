"""What `tunebook compare RUN RUN` does: hold evaluations of runs against each other."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, pairwise
from pathlib import Path

from tunebook.book.codec import to_plain
from tunebook.book.evaluations import read_log, scores_of
from tunebook.book.run_file import flatten, read_config
from tunebook.errors import DefectError, UsageError
from tunebook.evaluate.loss import MARGIN_BITS, MARGIN_NATS
from tunebook.pages.comparison import plain_pairs
from tunebook.records import Comparison, Estimate, Finding, ItemScore
from tunebook.statistics.compare import DEFAULT_MARGIN, compare_by_tag, compare_many
from tunebook.statistics.estimate import mean_estimate, ratio_estimate
from tunebook.statistics.noise import chance_best
from tunebook.workflows.compare_sides import (
    Side,
    asked_of,
    check_kind,
    command_for,
    find_sides,
    notes_on,
)

_SCALES = {"judge": (0.0, 100.0)}
_BITS = "bits per byte"

Rows = dict[str, list[ItemScore]]


@dataclass(frozen=True, slots=True)
class RunsCompared:
    """Scores of runs, and every pair of them (neighbours where sorted), the first minus the second.

    `asked` names the data or questions. `sorted_by` has the value of the setting sorted by;
    `by_tag` the pairs again on the items of each tag, where there are several; `chance_best` how
    probably each is the best, None for two runs.
    """

    kind: str
    unit: str
    estimates: dict[str, Estimate]
    pairs: dict[tuple[str, str], Comparison]
    by_tag: dict[tuple[str, str], dict[str, Comparison]]
    chance_best: dict[str, float] | None
    notes: list[str]
    findings: list[Finding]
    sorted_by: dict[str, object] = field(default_factory=dict)
    asked: str = ""
    lower_is_better: bool = False

    def plain(self) -> dict[str, object]:
        """Give one object for JSON; a single pair's own keys stand at its top."""
        pairs = plain_pairs(self.estimates, self.pairs)
        for pair, names in zip(pairs, self.pairs, strict=True):
            tags = self.by_tag.get(names, {})
            pair["per_tag"] = {tag: to_plain(one) for tag, one in tags.items()}
        return {
            "kind": self.kind,
            "unit": self.unit,
            "chance_best": self.chance_best,
            "sorted_by": self.sorted_by,
            "notes": self.notes,
            "findings": self.findings,
            **(pairs[0] if len(pairs) == 1 else {"pairs": pairs}),
        }


def compare_runs(
    names: Sequence[str],
    book: Path,
    *,
    kind: str = "loss",
    margin: float | None = None,
    shared_only: bool = False,
    across_wordings: bool = False,
    sort: str | None = None,
) -> RunsCompared:
    """Compare evaluations that were made before; losses per byte where the tokens are not the same.

    `across_wordings` pairs questions by id, whatever they say. Raises DefectError for scores of
    other examples, UsageError for other settings, BookError where something was not measured.
    """
    check_kind(kind)
    sides = find_sides(names, book, kind)
    order = _sorted(sides, sort) if sort else {}
    rows, unit = _rows_of(sides, kind, across_wordings)
    if order:
        rows = {name: rows[name] for name in order}
    shown = list(pairwise(rows) if order else combinations(rows, 2))
    if not shared_only:
        _refuse_other_examples(sides, rows, kind)
    margin = _margin(kind, unit, sides) if margin is None else margin
    scale = _SCALES.get(kind)
    pairs = compare_many(rows, shown, margin=margin, shared_only=shared_only, scale=scale)
    tags = {pair: {t for name in pair for row in rows[name] for t in row.tags} for pair in shown}
    tagged = [pair for pair in shown if len(tags[pair]) > 1]
    by_tag = compare_by_tag(rows, tagged, margin=margin, scale=scale)
    untold = [
        f"{', '.join(sorted(left))}: no item with this tag has a score of both {a} and {b}"
        for (a, b), found in by_tag.items()
        if (left := tags[a, b] - found.keys())
    ]
    if shared_only:
        rows = _shared(rows)
    lower = kind == "loss" or bool(sides[0].evaluation.details.get("lower_is_better"))
    return RunsCompared(
        kind=kind,
        unit=unit,
        estimates={
            name: ratio_estimate(own) if kind == "loss" else mean_estimate(own, "bca", scale)
            for name, own in rows.items()
        },
        pairs=pairs,
        by_tag=by_tag,
        chance_best=chance_best(rows, higher_is_better=not lower) if len(rows) > 2 else None,
        notes=[*notes_on(sides), *untold],
        findings=find_adapter_scale(sides),
        sorted_by=order,
        asked=asked_of(sides),
        lower_is_better=lower,
    )


def find_adapter_scale(sides: Sequence[Side]) -> list[Finding]:
    """Warn of adapters of several ranks that are scaled unequally: rank is not all that differs."""
    adapters = dict[str, tuple[int, float]]()
    for side in sides:
        config, _ = read_config(side.run)
        lora = config.get("lora")
        if config.get("method") == "full" or not isinstance(lora, dict):
            continue
        rank, alpha = int(lora.get("rank", 16)), float(lora.get("alpha", 16))
        root = lora.get("variant") == "rslora"
        adapters[side.run.name] = (rank, alpha / (math.sqrt(rank) if root else rank))
    ranks, scales = {rank for rank, _ in adapters.values()}, {s for _, s in adapters.values()}
    if len(ranks) < 2 or len(scales) < 2:
        return []
    named = ", ".join(f"{name} rank {r} scaled by {s:g}" for name, (r, s) in adapters.items())
    return [
        Finding(
            name="adapter-scale",
            level="warn",
            message=f"adapters of unequal scale are compared across ranks: {named}.",
            evidence={name: {"rank": r, "scale": s} for name, (r, s) in adapters.items()},
            way_out="set lora.alpha so that alpha / rank (rslora: alpha / sqrt(rank)) is equal, "
            "or read the difference as one of rank and scale together",
        )
    ]


def _sorted(sides: Sequence[Side], key: str) -> dict[str, object]:
    """Order the names by a setting of the run, or of the evaluation; UsageError for an unknown."""
    values = {}
    for side in sides:
        settings = {**side.settings, **flatten(read_config(side.run)[0])}
        if key not in settings:
            near = difflib.get_close_matches(key, settings, n=1, cutoff=0.3)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UsageError(f"{side.name} has no setting {key} to sort by{hint}")
        values[side.name] = settings[key]
    # Numbers before words; nothing (no bound) comes last.
    ordered = sorted(
        values.items(),
        key=lambda one: (
            one[1] is None,
            not isinstance(one[1], (int, float)),
            one[1] if isinstance(one[1], (int, float)) else 0,
            str(one[1]),
        ),
    )
    return dict(ordered)


def _rows_of(sides: Sequence[Side], kind: str, across: bool) -> tuple[Rows, str]:
    """Read the scores of each side; losses in bits per byte where the tokens are not the same."""
    logs = {side.name: read_log(side.log) for side in sides}
    rows = {name: scores_of(log, name) for name, log in logs.items()}
    if not all(rows.values()):
        raise UsageError(f"an evaluation of kind {kind} has no score per item to compare runs by")
    unit = sides[0].evaluation.unit
    names = ("tokenizer", "template")
    others = any(len({str(s.settings.get(name)) for s in sides}) > 1 for name in names)
    if kind == "loss" and (others or across) and not _same_items(rows):
        unit = _BITS
        rows = {
            name: [
                replace(
                    row,
                    item_hash=line["scored_hash"],
                    value=None if row.value is None else row.value / math.log(2),
                    n_units=line["bytes"],
                )
                for row, line in zip(rows[name], log, strict=True)
                if line["bytes"]
            ]
            for name, log in logs.items()
        }
    if across:
        rows = {name: _by_id(own, kind) for name, own in rows.items()}
        rows = _clustered_as_the_first(rows)
    return rows, unit


def _by_id(rows: Sequence[ItemScore], kind: str) -> list[ItemScore]:
    if kind != "loss":
        return [replace(row, item_hash="") for row in rows]
    # Examples are named after their file, which another wording has under another name: the place
    # of the file stands for it. What is scored of them has to be the same in any case.
    named = [row.item_id.rpartition("#") for row in rows]
    place = {file: str(n) for n, file in enumerate(dict.fromkeys(file for file, _, _ in named))}
    return [
        replace(row, item_id=f"{place[file]}#{number}")
        for row, (file, _, number) in zip(rows, named, strict=True)
    ]


def _clustered_as_the_first(rows: Rows) -> Rows:
    """Give an item the cluster it has in the first: where questions differ, their documents do."""
    first = {row.item_id: row.cluster for row in next(iter(rows.values()))}
    return {
        name: [replace(row, cluster=first.get(row.item_id, row.cluster)) for row in own]
        for name, own in rows.items()
    }


def _keys(rows: Sequence[ItemScore]) -> set[tuple[str, str]]:
    return {(row.item_id, row.item_hash) for row in rows}


def _same_items(rows: Rows) -> bool:
    return len({frozenset(_keys(own)) for own in rows.values()}) == 1


def _shared(rows: Rows) -> Rows:
    kept = set.intersection(*(_keys(own) for own in rows.values()))
    return {
        name: [row for row in own if (row.item_id, row.item_hash) in kept]
        for name, own in rows.items()
    }


def _refuse_other_examples(sides: Sequence[Side], rows: Rows, kind: str) -> None:
    """Raise DefectError where two sides were scored on other examples, with the way out."""
    a = sides[0]
    for b in sides[1:]:
        ours, theirs = _keys(rows[a.name]), _keys(rows[b.name])
        shared = len(ours & theirs)
        if shared == max(len(ours), len(theirs)):
            continue
        message = (
            f"{a.name} and {b.name} were scored on different examples: {shared:,} are shared, "
            f"{len(ours) - shared:,} are only {a.name}'s and {len(theirs) - shared:,} only "
            f"{b.name}'s"
        )
        by = "" if kind == "loss" else f" --by {kind}"
        alone = f"`tunebook compare {a.name} {b.name}{by} --shared-only` compares on the shared"
        score = f"{_alike(a, b, kind)} scores them alike"
        raise DefectError(
            "different-validation-set", message, f"{alone}, {score}" if shared > 1 else score
        )


def _alike(a: Side, b: Side, kind: str) -> str:
    """Write the commands that score two sides on the same examples."""
    option = {"loss": "data", "judge": "questions"}.get(kind)
    if option is None:
        commands = [command_for(kind, b.run.name, b.evaluation.subject)]
    else:
        files = [side.settings.get(option) for side in (a, b)]
        file = next((str(f) for f in files if f not in (None, "held out")), None)
        needed = [s for s, f in zip((a, b), files, strict=True) if f != file]
        commands = [
            f"{command_for(kind, s.run.name, s.evaluation.subject)} --{option} {file or 'FILE'}"
            for s in needed
        ]
    return " and ".join(f"`{one}`" for one in commands)


def _margin(kind: str, unit: str, sides: Sequence[Side]) -> float:
    if unit == _BITS:
        return MARGIN_BITS
    known = (s.evaluation.comparison.margin for s in sides if s.evaluation.comparison is not None)
    # Other kinds score shares of items: legal moves, right answers.
    default = {"loss": MARGIN_NATS, "judge": DEFAULT_MARGIN}.get(kind, DEFAULT_MARGIN / 100)
    return next(known, default)
