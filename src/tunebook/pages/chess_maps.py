"""Chess of several weights side by side: legality by ply as curves, other shares as dots."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunebook.errors import MALFORMED
from tunebook.pages.elo import elo_lines
from tunebook.records import Evaluation
from tunebook.units import format_percent

COLOURS = 10
"""So many series can be told apart; the page has as many colours."""

LEFT, RIGHT, TOP, BOTTOM = 52.0, 640.0, 16.0, 276.0
"""Where the curves are drawn, in pixels."""

LABELS, REACH, ROW = 158.0, 360.0, 21.0
"""Pixels of a row of dots: the width of its label and of its scale, and its height."""

_HEAD = 30.0


@dataclass(frozen=True, slots=True)
class Series:
    """What was measured of one set of weights of a run, by kind of evaluation (and policy)."""

    name: str
    run: str
    number: int
    found: Mapping[str, Evaluation]


@dataclass(frozen=True, slots=True)
class Curve:
    """Legality by ply of one series: points of its line and its band, dots, texts by stretch."""

    series: Series
    line: str
    band: str
    dots: tuple[tuple[float, float, str], ...]
    texts: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Dot:
    """One value with its interval as places on a scale; an end that is None goes on for ever."""

    series: Series
    label: str
    y: float
    at: float | None
    low: float | None
    high: float | None
    text: str
    chance: float | None = None


@dataclass(frozen=True, slots=True)
class Dots:
    """Rows of dots below each other in groups, with marks on the scale."""

    groups: tuple[tuple[str, float], ...]
    rows: tuple[Dot, ...]
    marks: tuple[tuple[float, str], ...]
    height: float


def collect(results: Mapping[str, Sequence[Evaluation]]) -> tuple[list[Series], list[str]]:
    """Order what runs came to: the base first, each set of weights once, the newest of a kind.

    Also says what of it is not shown, and what of it does not compare.
    """
    found: dict[tuple[str, str], dict[str, Evaluation]] = {}
    bases: dict[str, str] = {}
    notes = []
    every = [(run, one) for run, all_ in results.items() for one in all_ if one.kind[:5] == "chess"]
    for run, one in every:
        if one.subject == "base":
            # Runs share their base: what was asked of it is shown once, under the first of them.
            bases.setdefault(_weights(run, one), run)
    for run, one in sorted(every, key=lambda each: each[1].finished):
        first = bases[_weights(run, one)] if one.subject == "base" else run
        kind = one.kind
        if kind == "chess-games":
            kind = f"games, {one.settings.get('policy', 'as played')}"
        if reason := _why_unreadable(Series("", run, 1, {kind: one})):
            notes.append(f"{one.log} of {run} cannot be read ({reason}) and is left out.")
            continue
        found.setdefault((first, one.subject), {})[kind] = one
    keys = sorted(found, key=lambda key: (key[1] != "base", list(results).index(key[0])))
    series = [
        Series(f"{run} {subject}", run, number, found[run, subject])
        for number, (run, subject) in enumerate(keys[:COLOURS], 1)
    ]
    if more := [f"{run} {subject}" for run, subject in keys[COLOURS:]]:
        notes.append(
            f"{len(keys)} sets of weights are more than the {COLOURS} that can be told apart; not "
            f"shown: {', '.join(more)}. Choose runs."
        )
    return series, notes + list(_different(series))


def _weights(run: str, one: Evaluation) -> str:
    return str(one.settings.get("weights", f"those of {run}"))


def _different(series: Sequence[Series]) -> Iterator[str]:
    for kind, what in (("chess", "positions"), ("chess-puzzles", "puzzles")):
        asked = {one.found[kind].examples_hash for one in series if kind in one.found}
        if len(asked) > 1:
            yield (
                f"These were asked {len(asked)} different sets of {what}, so their shares of "
                f"{what} do not compare; `tunebook compare` refuses those."
            )


def _why_unreadable(alone: Series) -> str:
    """Try to draw one evaluation: details of another hand or release may lack anything."""
    try:
        for draw in (ply_curves, kind_dots, puzzle_dots, elo_dots, failure_rows, game_rows):
            draw([alone])
        for one in alone.found.values():
            if "elo" in one.details:
                list(elo_lines(one.details))
    except MALFORMED as error:
        return f"{type(error).__name__}: {error}"
    return ""


def ply_curves(series: Sequence[Series]) -> tuple[list[str], list[Curve]]:
    """Draw the share of legal moves over the stretches of a game; also gives these."""
    chosen = [one for one in series if "chess" in one.found]
    tags = list(dict.fromkeys(t for one in chosen for t in _details(one, "chess")["by_ply"]))
    places = {tag: x_of(number, len(tags)) for number, tag in enumerate(tags)}
    curves = []
    for one in chosen:
        asked = _details(one, "chess")["by_ply"]
        known = {tag: share for tag, share in asked.items() if share["score"] is not None}
        spread = {tag: share["interval"] or [share["score"]] * 2 for tag, share in known.items()}
        upper = [f"{places[tag]:g},{_y(spread[tag][1]):.1f}" for tag in known]
        lower = [f"{places[tag]:g},{_y(spread[tag][0]):.1f}" for tag in reversed(known)]
        dots = [(places[tag], _y(share["score"]), tag) for tag, share in known.items()]
        curves.append(
            Curve(
                one,
                line=" ".join(f"{x:g},{y:.1f}" for x, y, _ in dots),
                band=" ".join(upper + lower),
                dots=tuple(dots),
                texts={tag: share_text(asked[tag]) if tag in asked else "" for tag in tags},
            )
        )
    return tags, curves


def x_of(place: int, places: int) -> float:
    """Place one of several stretches on the axis."""
    return LEFT + 30 + (RIGHT - LEFT - 60) * place / max(places - 1, 1)


def _y(share: float) -> float:
    return BOTTOM - share * (BOTTOM - TOP)


def kind_dots(series: Sequence[Series]) -> Dots:
    """Draw shares of positions: all that are legal, written as a move at all, and by phase."""
    groups: dict[str, list[tuple[Series, Mapping[str, Any], float | None]]] = {}
    for one in series:
        if "chess" not in one.found:
            continue
        evaluation, details = one.found["chess"], _details(one, "chess")
        whole = {"score": evaluation.score, "interval": evaluation.interval, "n": evaluation.n}
        groups.setdefault("legal moves, all positions", []).append((one, whole, None))
        groups.setdefault("written as a move", []).append((one, details["format_valid"], None))
        for phase, share in details["by_phase"].items():
            groups.setdefault(f"legal, {phase}", []).append((one, share, None))
    return _share_dots(groups)


def puzzle_dots(series: Sequence[Series]) -> Dots:
    """Draw the share of puzzles solved by rating, beside what random legal moves solve."""
    groups: dict[str, list[tuple[Series, Mapping[str, Any], float | None]]] = {}
    for one in series:
        if "chess-puzzles" in one.found:
            for band, share in _details(one, "chess-puzzles")["by_rating"].items():
                row = (one, share, float(share["random_legal"]))
                groups.setdefault(f"rating {band}", []).append(row)
    return _share_dots(groups)


def elo_dots(series: Sequence[Series]) -> Dots:
    """Draw Elo with its interval among the ratings of the opponents."""
    rows = [
        (one, policy.removeprefix("games, "), elo, evaluation)
        for one in series
        for policy, evaluation in one.found.items()
        if "elo" in evaluation.details
        and "reason" not in (elo := _details(one, policy)["elo"])
        and elo["scale"] == "Elo"
    ]
    opponents = {
        (known["elo"], name)
        for one, policy, _, _ in rows
        for name, known in _details(one, f"games, {policy}").get("ratings", {}).items()
    }
    values = [v for _, _, elo, _ in rows for v in (elo["elo"], *elo["interval"]) if v is not None]
    values += [value for value, _ in opponents]
    if not rows:
        return Dots((), (), (), 0)
    low, high = min(values) - 100, max(values) + 100

    def at(value: float | None) -> float | None:
        return None if value is None else (value - low) / (high - low)

    dots = [
        Dot(one, f"{one.name}, {policy}", _HEAD + ROW * number + ROW / 2, at(elo["elo"]),
            at(elo["interval"][0]), at(elo["interval"][1]), next(elo_lines(evaluation.details)))
        for number, (one, policy, elo, evaluation) in enumerate(rows)
    ]  # fmt: skip
    marks = [(at(value) or 0.0, f"{name} {value:.0f}") for value, name in opponents]
    return Dots((), tuple(dots), tuple(sorted(marks)), _HEAD + ROW * len(dots) + 8)


def _share_dots(
    groups: Mapping[str, Sequence[tuple[Series, Mapping[str, Any], float | None]]],
) -> Dots:
    heads, rows, y = [], [], _HEAD
    for title, members in groups.items():
        heads.append((title, y + 14))
        y += ROW
        for one, share, chance in members:
            low, high = share["interval"] or (None, None)
            if share["score"] is None:
                low = high = 0.0
            rows.append(
                Dot(
                    one, one.name, y + ROW / 2, share["score"], low, high, share_text(share), chance
                )
            )
            y += ROW
        y += 6
    marks = tuple((part / 4, f"{part * 25} %") for part in range(5))
    return Dots(tuple(heads), tuple(rows), marks, y + 4)


def failure_rows(series: Sequence[Series]) -> tuple[list[Series], list[list[str]]]:
    """Count how moves failed: a row for each kind, a column for each series that was asked."""
    chosen = [one for one in series if "chess" in one.found]
    counts = [_details(one, "chess")["failures"] for one in chosen]
    kinds = dict.fromkeys(kind for one in counts for kind in one)
    rows = [
        [kind, *(_of(found.get(kind, 0), one.found["chess"].n)
                 for one, found in zip(chosen, counts, strict=True))]
        for kind in kinds
    ]  # fmt: skip
    return chosen, rows


def game_rows(series: Iterable[Series]) -> list[tuple[Series, str, list[str]]]:
    """Write how games went, a row for each opponent."""
    return [
        (one, kind.removeprefix("games, "),
         [name, *(str(each[key]) for key in ("won", "drawn", "lost")),
          ", ".join(f"{end} {n}" for end, n in each.get("ends", {}).items())])
        for one in series
        for kind, evaluation in one.found.items()
        if kind.startswith("games")
        for name, each in evaluation.details["opponents"].items()  # type: ignore[attr-defined]
    ]  # fmt: skip


def share_text(share: Mapping[str, Any]) -> str:
    """Write a share with its interval and how many were asked."""
    if share["score"] is None:
        return "none asked"
    spread = ""
    if share["interval"]:
        spread = " ({} to {})".format(*map(format_percent, share["interval"]))
    return f"{format_percent(share['score'])}{spread}, n {share['n']}"


def _of(count: int, n: int) -> str:
    return f"{count} ({format_percent(count / n)})" if n else str(count)


def _details(one: Series, kind: str) -> Mapping[str, Any]:
    return one.found[kind].details
