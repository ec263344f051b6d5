"""The numbers of a probe against what is computed by hand, or by transformers alone."""

from __future__ import annotations

import io
import math
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tunebook.data.render import PlainRenderer
from tunebook.evaluate.likelihood import (
    Kept,
    Spoken,
    divergence,
    log_probs,
    plain_tokens,
    reference_tokens,
    score_sums,
    spoken_tokens,
)
from tunebook.evaluate.probes import Given, Measure, Output, Probed, measure
from tunebook.evaluate.questions import Question
from tunebook.evaluate.repetition import copied, distinct, loops, repeated
from tunebook.evaluate.style import style_threshold
from tunebook.evaluate.wording import domain_terms, likeness, term_share, words
from tunebook.models.load import LoadedModel, load_model
from tunebook.models.tokenizer import load_tokenizer
from tunebook.records import Message
from tunebook.step.check import choose_scorer


def test_repetition_is_counted_as_by_hand() -> None:
    assert repeated([1, 2, 1, 2, 1], 2) == 0.5  # 12 21 12 21: two of four are new
    assert repeated([1, 2, 3], 4) == 0
    assert loops([9, *[1, 2, 3] * 4])
    assert not loops([*[1, 2, 3] * 4, 9])
    assert not loops([5] * 11)
    assert loops([5] * 12)
    assert distinct([[1, 2], [1, 2], [3]], 1, 5) == 3 / 5
    assert distinct([[1, 2], [1, 2]], 2, 4) == 1 / 2  # no pair reaches into the next answer
    assert distinct([[1, 2]], 1, 5) is None
    assert copied([1, 2, 3, 4], [2, 3, 4, 9], 2) == 2 / 3


def test_words_of_a_domain_are_those_in_excess_and_not_those_of_all_texts() -> None:
    own = ["the star is a hot star and the galaxy is wide"] * 30
    other = ["the cat is a small cat and the house is wide"] * 30
    assert domain_terms(own, other) == {"star", "hot", "galaxy"}
    assert domain_terms(own, other, n=1) == {"star"}
    assert domain_terms(own, own) == set()
    assert words("Don't stop: 3 Stars!") == ["don't", "stop", "stars"]
    assert term_share("A star, a cat", frozenset({"star"})) == 1 / 4
    assert term_share("42!", frozenset({"star"})) == 0


def test_likeness_is_the_mean_rouge_l_of_all_pairs() -> None:
    # Longest common subsequences: "a c" of 3 and 2 words, "" and "".
    assert likeness(["a b c", "a c", "d"]) == pytest.approx((2 * 2 / 5 + 0 + 0) / 3)
    assert likeness(["a b c d", "a x c y"]) == 0.5
    assert likeness(["", ""]) == 1
    assert likeness(["alone"]) is None


def test_the_style_is_cut_where_most_answers_fall_on_their_own_side() -> None:
    assert style_threshold([3.0, 4.0], [1.0, 2.0]) == (2.5, 1.0)
    cut, apart = style_threshold([1.0, 3.0, 4.0, 5.0], [0.0, 1.5, 2.0, 2.5])
    assert (cut, apart) == (2.75, 0.75)
    assert style_threshold([0.0, 0.0], [0.0]) == (math.inf, 0.0)


def ask(group: str, number: int) -> Question:
    return Question(f"{group}/{number}", (Message("user", f"{group} {number}"),), "ja", group)


def made(shift: Callable[[str, str], float], n: int = 40) -> Probed:
    """Answers of 10 bytes; `shift` is how much likelier the tuned weights find one, in nats."""
    draw = random.Random(5)
    outputs: dict[str, list[Output]] = {"base": [], "final": []}
    references, general = [], []
    for group in ("in", "out"):
        for question in (ask(group, i) for i in range(n)):
            for who in outputs:
                for repeat in (0, 1):
                    nats = draw.uniform(20, 30)
                    text = "star galaxy" if shift(group, who) >= 5 else "cat house"
                    both = {"base": nats, "final": nats - shift(group, who)}
                    one = Output(question, repeat, text, (1, 2, 3, 4, 5), 10, both)
                    outputs[who].append(one)
            nats = draw.uniform(20, 30)
            both = {"base": nats, "final": nats - shift(group, "reference")}
            references.append(Given(question, (1, 2), 10, both))
            if group == "out":
                general.append(Given(question, (1, 2), 10, both))
    return Probed(
        base="base",
        outputs=outputs,
        references=references,
        general=general,
        unigram={one.question.id: one.nats["base"] + 8 for one in general},
        divergences={"final": [(o.question, 0.5, 5) for o in outputs["base"] if not o.repeat]},
        training=["the star and the galaxy"] * 50,
        max_new_tokens=5,
    )


def by_name(probed: Probed) -> dict[tuple[str, str, str], Measure]:
    found = measure(probed, "final")["measures"]
    return {(one.group, one.name, one.against): one for one in found}


def test_weights_that_changed_nothing_spill_nothing_and_keep_everything() -> None:
    found = measure(made(lambda *_: 0.0), "final")
    assert found["retention"]["kept"] == 1
    assert found["retention"]["interval"] == (1, 1)
    assert found["narrowed"]["narrowed"] is False
    for one in found["measures"]:
        if one.against == "base" and one.difference is not None:
            assert one.difference.difference == 0
            assert one.difference.verdict == "equivalent"


def test_a_style_that_comes_up_everywhere_is_spill_over_and_narrowing() -> None:
    # The tuned answers are 1 nat a byte likelier under their own weights, base's 0.1 unlikelier.
    def spilled(group: str, who: str) -> float:
        return {"base": -1.0, "final": 10.0, "reference": 4.0 if group == "in" else -2.0}[who]

    found = measure(made(spilled), "final")
    numbers = by_name(made(spilled))
    ratio = numbers["in", "log-likelihood ratio, references", "base"]
    assert ratio.difference is not None
    assert ratio.difference.difference == pytest.approx(0.4)
    assert ratio.difference.verdict == "different"
    own = numbers["out", "log-likelihood ratio, own answers", "base"]
    assert own.tuned.score == pytest.approx(1.0)
    spill = numbers["out", "spill-over", "base"]
    assert spill.difference is not None
    assert (spill.difference.difference, spill.difference.verdict) == (1, "different")
    assert numbers["out", "KL(base || tuned)", "base"].tuned.score == pytest.approx(0.1)
    assert found["narrowed"]["narrowed"] is True
    # 2 nats lost of the 8 between base and unigram.
    assert found["retention"]["kept"] == pytest.approx(0.75)


def test_a_style_that_stays_in_its_domain_is_neither() -> None:
    def kept_apart(group: str, who: str) -> float:
        return 10.0 if group == "in" and who != "base" else 0.0

    found = measure(made(kept_apart), "final")
    spill = by_name(made(kept_apart))["out", "spill-over", "base"].difference
    assert spill is not None
    assert spill.difference == 0
    assert found["spill_over"]["told_apart"] == [1, 1]
    assert found["narrowed"]["narrowed"] is False


def test_thirty_nine_prompts_give_numbers_and_no_verdict() -> None:
    found = measure(made(lambda *_: 0.0, n=39), "final")
    assert found["narrowed"]["narrowed"] is None
    for one in found["measures"]:
        if one.difference is not None:
            assert one.difference.verdict == "cannot tell"
            assert one.difference.reason == "39 prompts, a verdict takes 40"


@pytest.fixture(scope="module")
def two_models(tiny_model: Path) -> tuple[LoadedModel, LoadedModel]:
    """The same random model twice, the second with moved weights."""
    first, second = (
        load_model(str(tiny_model), device="cpu", precision="fp32", attention="auto")
        for _ in range(2)
    )
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in second.causal.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return first, second


def test_likelihoods_and_divergence_are_those_of_a_full_softmax(
    two_models: tuple[LoadedModel, LoadedModel], tiny_model: Path, tmp_path: Path
) -> None:
    codec = load_tokenizer(str(tiny_model), (), tmp_path)
    renderer = PlainRenderer("qa", codec)
    question = Question("a", (Message("user", "the old sailor?"),), "rain on the roof")
    given = reference_tokens(question, renderer, 256)
    prompt = question.prompt_ids(renderer)
    answer = codec.encode(" rain on the roof", specials=False)[0]
    assert list(given.ids) == [*prompt, *answer, codec.eos_id]
    assert given.scored_bytes == len(" rain on the roof")
    assert sum(given.target) == len(answer)
    spoken = spoken_tokens(question, Spoken("", tuple(answer[:3]), False, 1), renderer)
    assert list(spoken.ids) == [*prompt[1:], *answer[:3]]
    plain = plain_tokens(question, codec, 256)
    assert sum(plain.target) == len(plain.ids) - 1

    base, tuned = two_models
    for one in (given, spoken, plain):
        expected, kl = [0.0, 0.0], 0.0
        for place in (place for place, flag in enumerate(one.target) if flag):
            ids = torch.tensor([one.ids[:place]])
            p, q = (m.causal(ids).logits[0, -1].detach().double().softmax(-1) for m in two_models)
            kl += float((p * (p / q).log()).sum())
            for i, shares in enumerate((p, q)):
                expected[i] -= math.log(float(shares[one.ids[place]]))
        for i, model in enumerate(two_models):
            [[nats]] = score_sums(model, choose_scorer(model, codec.vocab_size), [one])
            assert nats == pytest.approx(expected[i], rel=1e-5)
        kept = Kept(io.BytesIO())
        kept.put("other", torch.zeros(2, 3))
        kept.put("base", log_probs(base, one)[0])
        there = kept.get("base")
        assert divergence(there, log_probs(tuned, one)[0]) == pytest.approx(kl, rel=1e-4)
        assert divergence(there, log_probs(base, one)[0]) == 0
