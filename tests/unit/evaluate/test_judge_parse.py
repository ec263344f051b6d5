from __future__ import annotations

import pytest

from tunebook.evaluate.judge.parse import (
    EMPTY_REPLY,
    NO_CHOICE,
    NO_SCORE,
    OTHER_SCALE,
    OUT_OF_RANGE,
    NoScore,
    read_choice,
    read_score,
)


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ('{"reason": "3 of 4 facts", "score": 75}', 75),
        ('```json\n{"score": 62.5, "reason": "{odd}"}\n```', 62.5),
        ('First {"score": 10}, but on reflection {"score": "90/100"}', 90),
        ("87", 87),
        (" **87/100**.\n", 87),
        ("87 out of 100", 87),
        ("The answer names 3 of 4 causes.\n\nScore: 70", 70),
        ("Score: 40. On second thought the final score is **55**", 55),
        ("On a scale from 0 to 100 the score would be 12/100", 12),
        ("I would give this 64/100 because it lists 2 reasons.", 64),
        ('{"reason": "cut", "score": 33', 33),
        ("<think>score: 100? No, score: 5.</think> 20", 20),
        ("0", 0),
        ("100", 100),
    ],
)
def test_a_score_is_read_from(reply: str, score: float) -> None:
    assert read_score(reply) == score


@pytest.mark.parametrize(
    ("reply", "failure"),
    [
        ("", EMPTY_REPLY),
        ("<think>Hm.</think>\n", EMPTY_REPLY),
        ("I cannot assess this content.", NO_SCORE),
        ("The score depends on 3 things.", NO_SCORE),
        ("I score this answer, which lists 3 facts, highly", NO_SCORE),
        ("It deserves 80", NO_SCORE),
        ('{"score": null}', NO_SCORE),
        ('{"score": true}', NO_SCORE),
        ('{"score": [80]}', NO_SCORE),
        ("Score: 8/10", OTHER_SCALE),
        ("4/5", OTHER_SCALE),
        ("870", OUT_OF_RANGE),
        ('{"score": -5}', OUT_OF_RANGE),
        ('{"score": NaN}', OUT_OF_RANGE),
        ('{"score": 101} 50', OUT_OF_RANGE),
        ("9" * 5000, OUT_OF_RANGE),
        ("score: " + "9" * 5000, OUT_OF_RANGE),
        ('{"a":' * 100_000, NO_SCORE),
    ],
)
def test_a_reply_without_a_score_fails_by_name(reply: str, failure: str) -> None:
    with pytest.raises(NoScore, match=f"^{failure}$"):
        read_score(reply)


@pytest.mark.parametrize(
    ("reply", "choice"),
    [
        ('{"reason": "B is longer", "better": "A"}', 1),
        ('so {"better": "tie"}', 0.5),
        ("**B**", 0),
        ("<think>A? No.</think>Answer B.", 0),
    ],
)
def test_a_choice_is_read_from(reply: str, choice: float) -> None:
    assert read_choice(reply) == choice


@pytest.mark.parametrize("reply", ["A or B, who knows", '{"better": "C"}', '{"score": 1}'])
def test_a_reply_without_a_choice_fails_by_name(reply: str) -> None:
    with pytest.raises(NoScore, match=f"^{NO_CHOICE}$"):
        read_choice(reply)
