"""What `tunebook chess` and `tunebook grid` leave in a run's folder, written by hand."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

from tunebook.book.evaluations import write_result
from tunebook.book.places import RunFolder
from tunebook.records import Evaluation

PHASES = ("opening", "middle", "end", "random")
PLIES = ("ply 0-9", "ply 10-19", "ply 20-39", "ply 40-59", "ply 60-79", "ply 80+")


def share(score: float, n: int = 80) -> dict[str, Any]:
    return {
        "score": score,
        "interval": [max(score - 0.1, 0), min(score + 0.1, 1)],
        "n": n,
        "missing": 0,
    }


def make_chess(run: RunFolder, legal: float, elo: float | None, subject: str = "final") -> None:
    """Write positions, puzzles and games of one set of weights."""
    plies = {tag: share(legal * (1 - 0.12 * i)) for i, tag in enumerate(PLIES)}
    positions = {
        "format_valid": share(min(legal + 0.2, 1)),
        "without_premature_results": share(legal),
        "by_phase": {tag: share(legal * (1 - 0.1 * i)) for i, tag in enumerate(PHASES)},
        "by_ply": plies,
        "failures": {"illegal": 40, "unparsable": 12},
        "wrong_check_marks": 1,
    }
    bands = {
        band: share(max(legal / 2 - i / 10, 0))
        | {"first_move": share(legal / 2), "random_legal": 0.03, "random_first_move": 0.05}
        for i, band in enumerate(("0-999", "1000-1499"))
    }
    puzzles = {"random_legal": 0.03, "by_rating": bands, "failures": {}}
    against = {"n": 100, "won": 30, "drawn": 20, "lost": 50, "points": 40.0, "ends": {"mate": 100}}
    interval = [None, -800.0] if elo is None else [elo - 70, elo + 80]
    games = {
        "opponents": {"random": against},
        "elo": {"elo": elo, "interval": interval, "fit_p": None, "fits": [], "scale": "Elo",
                "sources": {"random": "a ladder"}},
        "ratings": {"random": {"elo": 250.0, "source": "a ladder", "error": 80.0}},
    }  # fmt: skip
    for kind, details, settings in (
        ("chess", positions, {}),
        ("chess-puzzles", puzzles, {}),
        ("chess-games", games, {"policy": "strict"}),
    ):
        weights = "base" if subject == "base" else f"{run.name} {subject}"
        _write(run, kind, subject, legal, details, {"weights": weights, **settings})


def make_grid(run: RunFolder, scores: Mapping[tuple[float, float, float], float]) -> None:
    """Write a grid from rep-4 by (temperature, top-p, penalty), each ± 0.02."""
    cells = [
        {
            "sampling": sampling(*place),
            "numbers": {
                name: {"score": score, "interval": [score - 0.02, score + 0.02], "n": 12,
                       "missing": 0, "clusters": 12, "examples_hash": "h", "method": "t"}
                for name in ("length", "short", "hit-max", "rep-2", "rep-3", "rep-4", "looping",
                             "copied")
            },
            "distinct": [None, None],
            "perplexity": 20.0,
            "difference": None,
        }
        for place, score in scores.items()
    ]  # fmt: skip
    details = {"cells": cells, "reference": cells[-1]["sampling"], "recommended": None}
    _write(run, "grid", "final", 0.1, details, {"by": "rep-4"})


def even_grid() -> dict[tuple[float, float, float], float]:
    """Give a grid in which every cell is the same."""
    places = [p for p in product((0.0, 0.5, 1.0), (0.9, 1.0), (1.0, 1.1)) if p[0] or p[1] == 1]
    return dict.fromkeys(places, 0.2)


def sampling(temperature: float, top_p: float, penalty: float) -> dict[str, float]:
    return {
        "max_new_tokens": 48,
        "temperature": temperature,
        "top_p": top_p,
        "repetition_penalty": penalty,
    }


def _write(
    run: RunFolder, kind: str, subject: str, score: float, details: Any, settings: Any
) -> None:
    run.evaluations.mkdir(exist_ok=True)
    log = run.evaluations / f"{kind}-{subject}-00000000.jsonl"
    made = Evaluation(kind, subject, "shares", score, (score - 0.1, score + 0.1), 320, 0, "h",
                      settings, details)  # fmt: skip
    write_result(run, log, made)
