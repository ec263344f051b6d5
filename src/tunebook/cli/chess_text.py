"""What `tunebook chess` shows at a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tunebook.pages.elo import elo_lines
from tunebook.records import Evaluation
from tunebook.units import format_count, format_percent

_MANY = 12


def write_chess(evaluations: Sequence[Evaluation]) -> Iterator[str]:
    """Write evaluations line by line."""
    for number, one in enumerate(evaluations):
        if number:
            yield ""
        details = dict[str, Any](one.details)
        yield f"{one.subject}: {_title(one)}"
        if one.kind == "chess":
            yield from _positions(one, details)
        elif one.kind == "chess-puzzles":
            yield from _puzzles(one, details)
        else:
            yield from _games(one, details)
        if one.comparison is not None:
            from tunebook.pages.evaluations import comparison_text

            yield f"  against {one.against}: {comparison_text(one.comparison)}"


def _title(one: Evaluation) -> str:
    missing = f", {format_count(one.missing)} missing" if one.missing else ""
    whole = {"score": one.score, "interval": one.interval}
    if one.kind == "chess-games":
        policy = f", policy {one.settings['policy']}" if "policy" in one.settings else ""
        low, high = one.interval or (None, None)
        spread = "" if low is None else f" ({low:.3f} to {high:.3f})"
        score = "unknown" if one.score is None else f"{one.score:.3f}"
        return f"{score}{spread} points a game, {format_count(one.n)} games{missing}{policy}"
    what = "positions" if one.kind == "chess" else "puzzles"
    return f"{_share(whole)} {one.unit}, {format_count(one.n)} {what}{missing}"


def _positions(one: Evaluation, details: Mapping[str, Any]) -> Iterator[str]:
    yield f"  written as a move        {_share(details['format_valid'])}"
    if "premature_result" in details["failures"]:
        yield f"  legal where no result    {_share(details['without_premature_results'])}"
    for name, each in (*details["by_phase"].items(), *details["by_ply"].items()):
        yield f"  {name.ljust(24)} {_share(each)}"
    yield from _failures(details["failures"])
    if details["wrong_check_marks"]:
        yield f"  legal with a wrong sign of check: {details['wrong_check_marks']}"


def _puzzles(one: Evaluation, details: Mapping[str, Any]) -> Iterator[str]:
    yield f"  random legal moves solve {format_percent(details['random_legal'])}"
    for band, each in details["by_rating"].items():
        chance, at_first = map(format_percent, (each["random_legal"], each["random_first_move"]))
        yield (
            f"  {band.ljust(11)} {_share(each)}, random {chance}; "
            f"first move {_share(each['first_move'])}, random {at_first}"
        )
    yield from _failures(details["failures"])


def _games(one: Evaluation, details: Mapping[str, Any]) -> Iterator[str]:
    opponents = details["opponents"]
    for name, each in list(opponents.items())[:_MANY]:
        ends = ", ".join(f"{end} {n}" for end, n in each.get("ends", {}).items())
        yield (
            f"  against {name}: {each['won']} won, {each['drawn']} drawn, {each['lost']} lost"
            + (f" ({ends})" if ends else "")
        )
    if len(opponents) > _MANY:
        yield f"  and {len(opponents) - _MANY} more opponents"
    if "legal" in details:
        yield f"  legal moves in the games {_share(details['legal'])}"
    lasted = details.get("own_moves_to_first_failure")
    if lasted:
        half = lasted["median"]
        said = "more than half of the games never fail" if half is None else f"{half:g} own moves"
        yield f"  half of the games fail by: {said} ({lasted['failed']} of {lasted['n']} failed)"
    yield from _failures(details.get("failures", {}))
    if (illegal := details.get("illegal")) and illegal["games"]:
        kinds = ", ".join(f"{kind} {n}" for kind, n in illegal["failures"].items())
        yield f"  {illegal['games']} games stop at a move of {one.subject} that is none: {kinds}"
    yield from (f"  {line}" for line in elo_lines(details))


def _share(found: Mapping[str, Any]) -> str:
    if found["score"] is None:
        return "none asked"
    said = format_percent(found["score"])
    if found["interval"] is None:
        return said
    low, high = (format_percent(end) for end in found["interval"])
    return f"{said} ({low} to {high})"


def _failures(kinds: Mapping[str, int]) -> Iterator[str]:
    if kinds:
        yield "  failures: " + ", ".join(f"{kind} {n}" for kind, n in kinds.items())
