"""Log-likelihoods of given texts, and divergences that are exact over the vocabulary.

Shapes: T tokens of a sequence, M scored ones, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO

import numpy as np
import torch

from tunebook.data.batches import collate, numbers_by_batch
from tunebook.data.codec import TextCodec
from tunebook.data.order import SourcedExample
from tunebook.data.render import Renderer
from tunebook.data.tokenize import tokenize
from tunebook.evaluate.questions import Question
from tunebook.models.load import LoadedModel
from tunebook.records import Example, Message, Tokens
from tunebook.step.forward import Scorer
from tunebook.step.score import score_examples

_TOKENS_PER_BATCH = {"cpu": 2048, "mps": 4096, "cuda": 16384}


def score_sums(
    loaded: LoadedModel, scorer: Scorer, sequences: Sequence[Tokens]
) -> Iterator[list[float]]:
    """Yield -log p (nats) of the target tokens of each sequence, batch by batch in order."""
    room = _TOKENS_PER_BATCH.get(loaded.device.type, 2048)
    for numbers in numbers_by_batch([len(one.ids) for one in sequences], room):
        batch = collate([SourcedExample(sequences[i], "") for i in numbers])
        yield [one.loss_sum for one in score_examples(loaded, scorer, [batch])]


@torch.no_grad()
def log_probs(loaded: LoadedModel, sequence: Tokens) -> tuple[torch.Tensor, torch.Tensor]:
    """Give the log-probabilities (M, V) of all tokens at the targets, and which came (M,)."""
    ids_1T = torch.tensor([sequence.ids], device=loaded.device)
    at_M = torch.tensor([i for i, flag in enumerate(sequence.target) if flag], device=loaded.device)
    places_1T = torch.arange(ids_1T.shape[1], device=loaded.device)[None]
    logits_1TV = loaded.causal(input_ids=ids_1T, position_ids=places_1T, use_cache=False).logits
    # The token at i is predicted at i - 1.
    return logits_1TV[0, at_M - 1].float().log_softmax(-1), ids_1T[0, at_M]


def divergence(base_MV: torch.Tensor, tuned_MV: torch.Tensor) -> float:
    """Give KL(base || tuned) in nats, summed over the places, each exact over the vocabulary."""
    terms_MV = base_MV.exp() * (base_MV - tuned_MV)
    # Where the base gives exactly 0, 0 * log 0 is 0.
    return float(terms_MV.masked_fill(base_MV == -torch.inf, 0).sum(dtype=torch.float64))


class Kept:
    """Log-probabilities on disk, so that two models need not be in memory together."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._places: dict[object, tuple[int, tuple[int, ...]]] = {}

    def put(self, key: object, values_MV: torch.Tensor) -> None:
        """Keep an array under a key; OSError when the disk is full."""
        self._file.seek(0, 2)
        self._places[key] = self._file.tell(), tuple(values_MV.shape)
        self._file.write(values_MV.float().cpu().contiguous().numpy().tobytes())

    def get(self, key: object) -> torch.Tensor:
        """Read an array back, on the CPU."""
        place, shape = self._places[key]
        self._file.seek(place)
        data = bytearray(self._file.read(4 * shape[0] * shape[1]))
        return torch.frombuffer(data, dtype=torch.float32).reshape(shape)


@dataclass(frozen=True, slots=True)
class Spoken:
    """What one of the weights wrote, as found in the log of answers."""

    text: str
    ids: tuple[int, ...]
    ended: bool
    left_out: int


def reference_tokens(question: Question, renderer: Renderer, limit: int) -> Tokens:
    """Give a question with its reference as trained on; only the reference's text is scored.

    The end token is not, as in `spoken_tokens`. What goes beyond `limit` tokens is left out.
    """
    codec, said = renderer.codec, question.reference or ""
    if all(message.role == "text" for message in question.messages):
        prompt = tuple(question.prompt_ids(renderer))
        # Text was cut between tokens and stripped; most tokenizers begin words with the blank.
        ids = (*prompt, *codec.encode(f" {said}", specials=False)[0])[:limit]
        target = tuple(place >= len(prompt) for place in range(len(ids)))
        return Tokens(question.id, "", ids, target, 0, _size(codec, ids[len(prompt) :]))
    asked = [Message(m.role, m.content, trained=False) for m in question.messages]
    example = Example(question.id, question.id, (*asked, Message("assistant", said)))
    block = tokenize([renderer.render(example)], codec, train_all=False)
    is_text = ~np.isin(block.ids, list(codec.special_ids))
    return Tokens(
        id=question.id,
        document="",
        ids=tuple(block.ids[:limit].tolist()),
        target=tuple((block.target & is_text)[:limit].tolist()),
        scored_bytes=int((block.n_bytes * block.target)[:limit].sum()),
    )


def spoken_tokens(question: Question, spoken: Spoken, renderer: Renderer) -> Tokens:
    """Give a prompt as it was seen and the very tokens written; only these are scored.

    The end token is not: its bytes are none, and answers that were cut have none.
    """
    prompt = tuple(question.prompt_ids(renderer))[spoken.left_out :]
    return Tokens(
        id=question.id,
        document="",
        ids=prompt + spoken.ids,
        target=(False,) * len(prompt) + (True,) * len(spoken.ids),
        scored_bytes=_size(renderer.codec, spoken.ids),
    )


def plain_tokens(question: Question, codec: TextCodec, limit: int) -> Tokens:
    """Give the reference of a question as text of its own, every token but the first scored."""
    begin = () if codec.bos_id is None else (codec.bos_id,)
    ids = (*begin, *codec.encode(question.reference or "", specials=False)[0])[:limit]
    target = (False, *(True,) * (len(ids) - 1))
    return Tokens(question.id, "", ids, target, 0, _size(codec, ids[1:]))


def _size(codec: TextCodec, ids: Sequence[int]) -> int:
    shown = [i for i in ids if i not in codec.special_ids]
    return len(codec.decode(shown).encode("utf-8", "replace"))
