"""Many runs are ranked by which of two answers a judge preferred."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from tunebook.book.evaluations import open_log, write_result
from tunebook.book.places import RunFolder
from tunebook.errors import BookError
from tunebook.records import Evaluation
from tunebook.workflows.standing import rank


def judged(book: Path, name: str, against: str, share: float, judge: str = "j") -> None:
    """Write down what a judge preferred: `share` of 40 questions, each in both orders."""
    run = RunFolder(book, name)
    run.path.mkdir(exist_ok=True)
    settings: dict[str, Any] = {
        "judge": judge,
        "prompt": "p",
        "era": 0,
        "against": {"name": against, "weights": f"of {against}"},
    }
    rng = random.Random(f"{name} {against}")
    with open_log(run, "pairs", "final", settings) as log:
        log.add(
            [
                {"item_id": f"q{i}", "item_hash": "h", "repeat": r, "value": float(wins)}
                for i in range(40)
                for wins in [rng.random() < share]
                for r in range(2)
            ]
        )
    done = Evaluation("pairs", "final", "share", share, None, 40, 0, "h", settings, {})
    write_result(run, log.path, done)


def test_runs_stand_by_what_was_preferred_and_like_ones_share_a_group(book: Path) -> None:
    judged(book, "fair", "good", 0.9, judge="another")
    judged(book, "good", "base", 0.95)
    judged(book, "fair", "base", 0.5)
    judged(book, "good", "fair", 0.9)
    found = rank(["fair", "good"], book)
    strengths = {one.name: one.strength for one in found.standing.strengths}
    assert next(iter(strengths)) == "good"
    assert strengths["good"] - strengths["fair"] > 1.5
    assert [set(group) for group in found.standing.groups] == [{"good"}, {"fair", "base"}]
    assert (found.judgings, found.left_out) == (3, 1)


def test_runs_that_were_never_judged_in_pairs_name_the_command(book: Path) -> None:
    (book / "runs" / "alone").mkdir()
    with pytest.raises(BookError, match="`tunebook judge alone --pairwise`"):
        rank(["alone"], book)
