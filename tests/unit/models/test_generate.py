"""Many prompts at once say what each says alone."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from tunebook.errors import ModelError
from tunebook.models import generate as module
from tunebook.models.generate import Sampling, generate
from tunebook.models.load import LoadedModel, load_model

PROMPTS = [[5, 6, 7], [8, 9, 10, 11, 12, 13, 14, 15], [20], [21, 22, 23, 24, 25]]


@pytest.fixture(scope="module", params=["tiny_model", "tiny_gpt2"])
def loaded(request: pytest.FixtureRequest) -> LoadedModel:
    folder: Path = request.getfixturevalue(request.param)
    return load_model(str(folder), device="cpu", precision="fp32", attention="auto")


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(12),
        Sampling(12, temperature=0.9, top_p=0.9),
        Sampling(12, temperature=1.1, repetition_penalty=1.3),
        Sampling(12, repetition_penalty=1.3),
    ],
)
def test_an_answer_does_not_depend_on_the_other_prompts(
    loaded: LoadedModel, sampling: Sampling
) -> None:
    seeds = [11, 12, 13, 14]
    together = dict(generate(loaded, PROMPTS, sampling, [0], seeds))
    for number, prompt in enumerate(PROMPTS):
        [(_, alone)] = generate(loaded, [prompt], sampling, [0], [seeds[number]])
        assert together[number] == alone


def test_greedy_is_what_transformers_writes(loaded: LoadedModel) -> None:
    [(_, found)] = generate(loaded, [PROMPTS[0]], Sampling(10), [])
    ids = torch.tensor([PROMPTS[0]])
    for _ in range(10):
        ids = torch.cat([ids, loaded.causal(ids).logits[:, -1].argmax(-1, keepdim=True)], 1)
    assert list(found.ids) == ids[0, 3:].tolist()


def test_tokens_are_drawn_from_the_softmax_of_the_tempered_logits(loaded: LoadedModel) -> None:
    n = 3000
    prompt, sampling = PROMPTS[1], Sampling(1, temperature=0.3)
    drawn = Counter(
        found.ids[0] for _, found in generate(loaded, [prompt] * n, sampling, [], range(n))
    )
    shares = torch.softmax(loaded.causal(torch.tensor([prompt])).logits[0, -1] / 0.3, -1)
    for token, share in zip(*[part.tolist() for part in shares.topk(3)[::-1]], strict=True):
        assert drawn[token] / n == pytest.approx(share, abs=4 * (share / n) ** 0.5)


def test_other_seeds_give_other_answers_and_the_end_token_ends_one(loaded: LoadedModel) -> None:
    hot = Sampling(8, temperature=2.0)
    found = dict(generate(loaded, [PROMPTS[0]] * 8, hot, [], range(8)))
    assert len({one.ids for one in found.values()}) > 1
    assert not any(one.ended for one in found.values())
    first = found[0].ids[0]
    [(_, ended)] = generate(loaded, [PROMPTS[0]], hot, [first], [0])
    assert ended.ended
    assert ended.ids == ()


def test_a_prompt_without_room_loses_its_oldest_tokens_and_that_is_told(
    loaded: LoadedModel,
) -> None:
    assert loaded.context_length
    long = [7] * loaded.context_length
    [(_, found)] = generate(loaded, [long], Sampling(4), [])
    assert found.left_out == 4
    assert len(found.ids) == 4


def test_a_batch_too_large_for_memory_is_halved_and_one_prompt_too_many_is_refused(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = dict(generate(loaded, PROMPTS, Sampling(4), []))
    real, sizes, most = module._continue, list[int](), 2

    def limited(*args: Any) -> Any:
        sizes.append(len(args[1]))
        if sizes[-1] > most:
            raise torch.OutOfMemoryError
        return real(*args)

    monkeypatch.setattr(module, "_continue", limited)
    assert dict(generate(loaded, PROMPTS, Sampling(4), [])) == whole
    assert sizes == [4, 2, 2]
    most = 0
    with pytest.raises(ModelError, match="memory does not suffice for a prompt of 8 tokens"):
        dict(generate(loaded, PROMPTS, Sampling(4), []))
