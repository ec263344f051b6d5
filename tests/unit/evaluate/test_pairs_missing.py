"""What is missing of pairwise judgements, held against a draw."""

from __future__ import annotations

from tunebook.records import Evaluation, ItemScore
from tunebook.workflows.judge_pairs import pairs_evaluation

SETTINGS = {"judge": {"model": "m"}, "against": {"name": "base"}}


def evaluated(n: int, n_missing: int) -> Evaluation:
    """Of n questions, three in four won in both orders; the first ones lack one order."""
    rows = [
        ItemScore(
            f"q{i}",
            "h",
            "run_1",
            None if i < n_missing and order == 0 else float(i % 4 > 0),
            cluster=f"d{i // 10}",
            repeat=order,
        )
        for i in range(n)
        for order in range(2)
    ]
    lengths = {(f"q{i}", "h"): (100 + i % 7, 103) for i in range(n)}
    return pairs_evaluation("final", rows, lengths, SETTINGS, {})


def test_a_share_of_missing_choices_forbids_a_verdict_only_above_two_percent() -> None:
    few = evaluated(1000, 6)
    assert few.comparison is not None
    assert (few.missing, few.comparison.verdict, few.comparison.reason) == (6, "different", "")
    many = evaluated(1000, 50)
    assert many.comparison is not None
    assert (many.missing, many.comparison.verdict) == (50, "cannot tell")
    assert "2.5% of the scores are missing" in many.comparison.reason


def test_questions_of_one_document_count_once_in_every_number() -> None:
    found = evaluated(200, 0)
    details = dict(found.details)
    assert found.comparison is not None
    assert details["win_rate"]["estimate"]["clusters"] == 20
    assert details["length_controlled"]["clusters"] == 20
    assert found.comparison.clusters == 20
