"""What evaluations say of a run, on the numbers that a probe really writes down."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import orjson
import pytest

from tunebook.book.codec import dump_json, to_plain, to_record
from tunebook.evaluate.probes import Given, Output, Probed, measure
from tunebook.evaluate.questions import Question
from tunebook.records import Comparison, Evaluation, ItemScore, Message
from tunebook.statistics.compare import compare
from tunebook.statistics.in_evaluations import find_in_evaluations

HEALTHY: dict[str, Any] = {"forgot": 0.2, "out": "cat house", "tokens": 20}


def probe(forgot: float, out: str, tokens: int) -> Evaluation:
    """Probe a made-up run: nats lost of 8 on general text, words on `out`, length of answers."""
    draw = random.Random(3)
    outputs: dict[str, list[Output]] = {"base": [], "final": []}
    references, general = [], []
    for group, words in (("in", "star galaxy"), ("out", out)):
        for n in range(60):
            question = Question(f"{group}/{n}", (Message("user", f"{n}"),), "yes", group)
            nats = draw.uniform(20, 30)
            both = {"base": nats, "final": nats - 4 if group == "in" else nats + forgot}
            references.append(Given(question, tuple(range(20)), 10, both))
            if group == "out":
                general.append(references[-1])
            length = tokens + draw.randrange(3)
            outputs["final"].append(Output(question, 0, words, tuple(range(length)), 10, both))
            outputs["base"].append(Output(question, 0, "cat house", tuple(range(21)), 10, both))
    probed = Probed(
        base="base",
        outputs=outputs,
        references=references,
        general=general,
        unigram={one.question.id: one.nats["base"] + 8 for one in general},
        divergences={},
        training=["the star and the galaxy"] * 50,
        max_new_tokens=48,
    )
    written = dump_json(evaluation("probe", details=to_plain(measure(probed, "final"))))
    return to_record(Evaluation, orjson.loads(written))


def evaluation(kind: str, comparison: Comparison | None = None, **changes: Any) -> Evaluation:
    made = Evaluation(kind, "final", "nats", 1.0, None, 60, 0, "h", {}, {}, "base", comparison)
    return replace(made, **changes)


def test_a_probe_of_another_form_says_nothing_and_hides_no_other() -> None:
    odd = evaluation("probe", details={"retention": {"kept": "much"}, "measures": [1]})
    assert find_in_evaluations([odd]) == []
    other = replace(probe(**{**HEALTHY, "forgot": 4}), subject="step-3")
    assert find_in_evaluations([odd, other]) == find_in_evaluations([other]) != []


def test_a_probe_of_healthy_weights_says_nothing() -> None:
    assert find_in_evaluations([probe(**HEALTHY)]) == []


@pytest.mark.parametrize(
    ("kind", "change", "number", "value"),
    [
        ("forgetting", {"forgot": 3.0}, "kept", 1 - 3 / 8),
        ("narrowed", {"out": "star galaxy"}, "terms_out", 1.0),
        ("short_responses", {"tokens": 4}, "tokens_of_other", 20.0),
    ],
)
def test_each_verdict_of_a_probe_has_its_numbers(kind, change, number, value) -> None:
    (found,) = find_in_evaluations([probe(**HEALTHY | change)])
    assert found.kind == kind
    assert found.evidence[number] == pytest.approx(value)
    assert found.evidence["weights"] == "final"


def test_forgetting_is_graded_beside_what_the_domain_gained() -> None:
    grades = [
        find_in_evaluations([probe(**HEALTHY | {"forgot": forgot})])[0] for forgot in (1.5, 3.0, 6)
    ]
    assert [one.evidence["grade"] for one in grades] == ["some", "much", "most"]
    assert grades[0].evidence["domain_gain_nats_per_byte"] == pytest.approx(0.4)


def test_only_the_newest_probe_of_the_same_weights_counts() -> None:
    old, new = probe(**HEALTHY | {"tokens": 4}), probe(**HEALTHY)
    assert find_in_evaluations([old, new]) == []
    assert len(find_in_evaluations([new, old])) == 1


def test_worse_than_the_base_is_higher_for_losses_and_lower_for_judges() -> None:
    def rows(by: float) -> list[ItemScore]:
        draw = random.Random(1)
        return [ItemScore(str(i), "h", "r", 5 + by + draw.gauss(0, 0.1)) for i in range(100)]

    higher = compare(rows(1), rows(0), margin=0.1)
    lower = compare(rows(0), rows(1), margin=0.1)
    same = compare(rows(0.001), rows(0), margin=0.1)
    kinds = [
        [v.kind for v in find_in_evaluations([evaluation(kind, one)])]
        for kind, one in (
            ("loss", higher),
            ("judge", lower),
            ("loss", lower),
            ("judge", higher),
            ("loss", same),
        )
    ]
    assert kinds == [["worse_than_base"]] * 2 + [[]] * 3
    assert find_in_evaluations([evaluation("loss", higher, against="step-5")]) == []
