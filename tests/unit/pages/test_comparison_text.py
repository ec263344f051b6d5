"""A comparison in one line, and the sentences of a probe."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tunebook.pages.evaluations import comparison_text
from tunebook.pages.probes import probe_lines
from tunebook.records import Comparison, Evaluation

FOUND = Comparison(
    verdict="equivalent",
    difference=0.002,
    interval=(0.001, 0.003),
    p=0.007,
    n=40,
    n_needed=None,
    detectable=0.004,
    margin=0.01,
    missing_a=0,
    missing_b=0,
    sd=0.003,
    p_equivalent=0.001,
    clusters=40,
    examples_hash="h",
    p_adjusted=0.099,
)


def test_the_p_that_decided_and_the_margin_stand_beside_the_verdict() -> None:
    said = comparison_text(FOUND)
    assert said == "0.002 (0.001 to 0.003), p 0.007, 0.099 of all looks: equivalent within 0.01"
    alone = replace(FOUND, verdict="different", p_adjusted=0.007)
    assert comparison_text(alone) == "0.002 (0.001 to 0.003), p 0.007: different"


@pytest.mark.parametrize(
    ("narrowed", "said"),
    [
        (True, "narrowed to the words of its domain (one-sided p 0.064)"),
        (False, "not narrowed to the words of its domain (one-sided p 0.064)"),
        (None, "narrowed to the words of its domain: too few prompts to say (one-sided p 0.064)"),
    ],
)
def test_what_is_said_of_narrowing_is_a_sentence(narrowed: bool | None, said: str) -> None:
    details: dict[str, Any] = {
        "retention": {"kept": None},
        "narrowed": {"narrowed": narrowed, "p_one_sided": 0.064},
        "spill_over": None,
        "measures": [],
        "prompts": {},
    }
    probed = Evaluation("probe", "final", "share", None, None, 0, 0, "h", {}, details)
    assert f"  {said}" in list(probe_lines(probed))
