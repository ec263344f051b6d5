"""Let loaded weights write chess moves: free text, or nothing but legal moves."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from tunebook.data.render import Renderer
from tunebook.data.tokenize import tokenize
from tunebook.evaluate.chess.asking import Answerer, Ask
from tunebook.models.generate import Sampling, end_ids, generate
from tunebook.records import Example, Message
from tunebook.workflows.speakers import Speaker

MAX_NEW_TOKENS = 12
"""Long enough for promotions and results, which fewer tokens cut off."""

_RETRY_TEMPERATURE = 1.0  # the most likely text was wrong; the same one again would be, too


def make_answerer(
    speaker: Speaker, renderer: Renderer, temperature: float, *, as_text: bool
) -> Answerer:
    """Let weights answer; a prompt that leaves no room for a move is answered by None."""
    spelling = _Spelling(speaker, renderer, as_text)

    def answer(asks: Sequence[Ask]) -> list[str | None]:
        answers: list[str | None] = [None] * len(asks)
        for again in (False, True):
            chosen = [n for n, ask in enumerate(asks) if (ask.attempt > 0) == again]
            held = any(asks[n].legal for n in chosen)
            for place, written in generate(
                speaker.loaded,
                [renderer.prompt_ids(asks[n].prompt) for n in chosen],
                Sampling(MAX_NEW_TOKENS, max(temperature, _RETRY_TEMPERATURE * again)),
                spelling.ends,
                [asks[n].seed for n in chosen],
                [spelling.only(asks[n].legal) for n in chosen] if held else None,
            ):
                if not written.left_out:
                    answers[chosen[place]] = speaker.codec.decode(written.ids)
        return answers

    return answer


class _Spelling:
    """Which tokens a move is written with after a prompt, and what ends it."""

    def __init__(self, speaker: Speaker, renderer: Renderer, as_text: bool) -> None:
        self._codec = speaker.codec
        self._renderer = renderer
        self._as_text = as_text
        self._known: dict[str, tuple[int, ...]] = {}
        self.ends = end_ids(speaker.loaded, speaker.codec.eos_id)

    def only(self, moves: Sequence[str]) -> _Legal:
        """Allow nothing but these moves, each followed by an end."""
        return _Legal([self._tokens(move) for move in moves], self._stops, self.ends)

    @cached_property
    def _stops(self) -> list[int]:
        """Every token that ends a move: end tokens, and those that begin with white space."""
        texts = ((i, self._codec.decode([i])) for i in range(self._codec.vocab_size))
        return [*self.ends, *(i for i, text in texts if text[:1].isspace())]

    def _tokens(self, move: str) -> tuple[int, ...]:
        if move not in self._known:
            if self._as_text:
                ids, _ = self._codec.encode(f" {move}", specials=False)
            else:
                asked = Example("", "", (Message("user", "?"), Message("assistant", move)))
                block = tokenize([self._renderer.render(asked)], self._codec, train_all=False)
                trained = zip(block.ids.tolist(), block.target.tolist(), strict=True)
                ids = [i for i, target in trained if target and i not in self.ends]
            self._known[move] = tuple(ids)
        return self._known[move]


class _Legal:
    """The legal moves of one position as sequences of tokens."""

    def __init__(
        self, moves: Sequence[tuple[int, ...]], stops: Sequence[int], ends: Sequence[int]
    ) -> None:
        self._moves, self._stops, self._ends = moves, stops, ends

    def __call__(self, written: list[int]) -> Sequence[int]:
        """Give what may follow; after a whole move that begins no other, an end."""
        so_far = tuple(written)
        n = len(so_far)
        following = {move[n] for move in self._moves if move[:n] == so_far and len(move) > n}
        if so_far in self._moves:
            # Of `O-O` and `O-O-O` the model says which by going on or not.
            return [*following, *self._stops] if following or not self._ends else self._ends
        return sorted(following) or self._ends or self._stops
