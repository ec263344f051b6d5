"""Let a model answer prompts, many at a time.

Each prompt has its own random numbers: what is answered depends on its seed, never on which other
prompts share the batch. A token is drawn by adding exponential noise (the Gumbel-max trick, Gumbel
1954) to the processed logits and taking the largest, which is exactly a draw from their softmax.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    StoppingCriteriaList,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from tunebook.errors import ModelError
from tunebook.models.attention import own_attention
from tunebook.models.load import LoadedModel
from tunebook.models.memory import unless_too_large

Allowed = Callable[[list[int]], Sequence[int]]
"""Gives the tokens that may follow those of an answer so far, at least one."""
Told = Callable[[int, list[int]], None]
"""Called after every token with the number of a prompt and its answer so far, its end included."""

_TOKENS_PER_BATCH = {"cpu": 8192, "mps": 16384, "cuda": 131072}


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen: penalty on repeats, then temperature, then top-p, in this order.

    Temperature 0 takes the most likely token. The penalty counts prompt and answer, as in Keskar
    et al. 2019 (CTRL); 1 is none.
    """

    max_new_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    repetition_penalty: float = 1.0


@dataclass(frozen=True, slots=True)
class Continuation:
    """What a model wrote: its tokens without the end token, and whether it came to an end.

    `left_out` counts the oldest tokens of the prompt that the model has no room for.
    """

    ids: tuple[int, ...]
    ended: bool
    left_out: int = 0


def end_ids(loaded: LoadedModel, eos_id: int | None) -> list[int]:
    """Give the tokens that end an answer: the tokenizer's, and those the model itself states."""
    config = getattr(loaded.causal, "generation_config", None)
    stated = getattr(config, "eos_token_id", None)
    own = stated if isinstance(stated, list) else [stated]
    return list(dict.fromkeys(i for i in (eos_id, *own) if i is not None))


@torch.no_grad()
def generate(
    loaded: LoadedModel,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    ends: Sequence[int],
    seeds: Sequence[int] | None = None,
    allowed: Sequence[Allowed] | None = None,
    told: Told | None = None,
) -> Iterator[tuple[int, Continuation]]:
    """Yield the number of each prompt with its continuation, as batches are done, longest first.

    `seeds` has one for each prompt (None: their numbers), and so has `allowed`, which says what may
    be answered at all (None: anything). `told` hears of every token; a batch that is halved begins
    anew. The model's own attention is used,
    because flat attention keeps no key/value cache; its mode is put back. A batch that memory does
    not suffice for is halved; ModelError where a single prompt is too much.
    """
    network, causal = loaded.network, loaded.causal
    attention = causal.config._attn_implementation
    was_training = network.training
    network.eval()
    causal.set_attn_implementation(own_attention(causal))
    try:
        waiting = list(_batches(loaded, [len(ids) for ids in prompts], sampling))[::-1]
        while waiting:
            batch = waiting.pop()
            chosen = [prompts[number] for number in batch]
            drawn = [number if seeds is None else seeds[number] for number in batch]
            held = None if allowed is None else [allowed[number] for number in batch]
            heard = None if told is None else functools.partial(_Listener, numbers=batch, told=told)
            job = functools.partial(_continue, loaded, chosen, sampling, ends, drawn, held, heard)
            done = unless_too_large(job)
            if done is not None:
                yield from zip(batch, done, strict=True)
            elif len(batch) > 1:
                half = (len(batch) + 1) // 2
                waiting += [batch[half:], batch[:half]]
            else:
                raise ModelError(
                    f"memory does not suffice for a prompt of {len(chosen[0]):,} tokens and an "
                    f"answer of {sampling.max_new_tokens:,}; ask for fewer, or use a larger device"
                )
    finally:
        causal.set_attn_implementation(attention)
        network.train(was_training)


def _batches(
    loaded: LoadedModel, lengths: Sequence[int], sampling: Sampling
) -> Iterator[list[int]]:
    """Put prompts of like length together, the longest first: what does not fit fails at once."""
    room = _TOKENS_PER_BATCH.get(loaded.device.type, 8192)
    batch: list[int] = []
    for number in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        longest = lengths[batch[0] if batch else number] + sampling.max_new_tokens
        if batch and (len(batch) + 1) * longest > room:
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch


def _continue(
    loaded: LoadedModel,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    ends: Sequence[int],
    seeds: Sequence[int],
    allowed: Sequence[Allowed] | None,
    heard: Callable[[int], _Listener] | None,
) -> list[Continuation]:
    context = loaded.context_length or 1 << 30
    max_new_tokens = min(sampling.max_new_tokens, context - 1)
    kept = [list(ids)[-(context - max_new_tokens) :] for ids in prompts]
    width = max(map(len, kept))
    # Any token will do where nothing is seen; the mask hides it.
    pad = ends[0] if ends else 0
    ids_BT = torch.tensor([[pad] * (width - len(ids)) + ids for ids in kept], device=loaded.device)
    mask_BT = torch.tensor(
        [[0] * (width - len(ids)) + [1] * len(ids) for ids in kept], device=loaded.device
    )
    may_follow = allowed and (lambda row, ids_T: allowed[row](ids_T[width:].tolist()))
    out_BT = loaded.network.generate(
        input_ids=ids_BT,
        attention_mask=mask_BT,
        logits_processor=_processors(sampling, mask_BT, seeds),
        prefix_allowed_tokens_fn=may_follow,
        stopping_criteria=heard and StoppingCriteriaList([heard(width)]),
        do_sample=False,
        num_beams=1,
        repetition_penalty=1.0,
        max_new_tokens=max_new_tokens,
        use_cache=True,
        eos_token_id=list(ends) or None,
        pad_token_id=pad,
        temperature=None,
        top_p=None,
        top_k=None,
    )
    found = []
    for prompt, ids, row in zip(prompts, kept, out_BT[:, width:].tolist(), strict=True):
        stop = next((place for place, token in enumerate(row) if token in ends), None)
        found.append(Continuation(tuple(row[:stop]), stop is not None, len(prompt) - len(ids)))
    return found


def _processors(
    sampling: Sampling, mask_BT: torch.Tensor, seeds: Sequence[int]
) -> LogitsProcessorList:
    found = LogitsProcessorList()
    if sampling.repetition_penalty != 1:
        found.append(_Penalty(sampling.repetition_penalty, mask_BT))
    if sampling.temperature:
        found.append(TemperatureLogitsWarper(sampling.temperature))
        if sampling.top_p < 1:
            found.append(TopPLogitsWarper(sampling.top_p))
        found.append(_Draw(seeds, mask_BT.device))
    return found


class _Listener:
    """Hears of every token that is written, and stops nothing."""

    def __init__(self, width: int, numbers: Sequence[int], told: Told) -> None:
        self._width, self._numbers, self._told = width, numbers, told

    def __call__(self, input_ids: torch.Tensor, scores: object, **_: object) -> torch.Tensor:
        for number, ids in zip(self._numbers, input_ids[:, self._width :].tolist(), strict=True):
            self._told(number, ids)
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


class _Penalty:
    """The penalty of transformers, which would also punish the token that a row is padded with."""

    def __init__(self, penalty: float, mask_BT: torch.Tensor) -> None:
        self._penalize = RepetitionPenaltyLogitsProcessor(penalty)
        self._is_pad_BT = mask_BT == 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        ids_BT, width = input_ids.clone(), self._is_pad_BT.shape[1]
        # The last token of a prompt is always there, and is punished once however often it stands.
        last_B1 = ids_BT[:, width - 1 : width]
        ids_BT[:, :width] = torch.where(self._is_pad_BT, last_B1, ids_BT[:, :width])
        penalized: torch.Tensor = self._penalize(ids_BT, scores)
        return penalized


class _Draw:
    """Turns taking the largest logit into drawing a token, with a generator for each row."""

    def __init__(self, seeds: Sequence[int], device: torch.device) -> None:
        self._generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        noise_BV = torch.empty_like(scores, dtype=torch.float32)
        for row_V, generator in zip(noise_BV, self._generators, strict=True):
            row_V.exponential_(generator=generator)
        return scores.float() - noise_BV.log()
