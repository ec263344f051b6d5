"""Prompts to ask a model before and after training: held-out ones, or the author's own."""

from __future__ import annotations

from collections.abc import Sequence

from tunebook.data.codec import TextCodec
from tunebook.data.render import choose_renderer
from tunebook.data.shards import Shards
from tunebook.recipe.tree import Recipe
from tunebook.records import Tokens

_TEXT_PROMPT_TOKENS = 32
_LOOKED_AT = 200

SamplePrompt = tuple[list[int], str, str | None]
"""The tokens of a prompt, its text, and what the data answers (None: nothing)."""


def held_out_prompts(shards: Shards, codec: TextCodec, *, text: bool, n: int) -> list[SamplePrompt]:
    """Take the first held-out examples with different prompts.

    Of a conversation the prompt is all before its last answer; of a text, its first 32 tokens.
    """
    found: list[SamplePrompt] = []
    for index in range(min(len(shards), _LOOKED_AT)):
        if len(found) == n:
            break
        prompt = cut_prompt(shards.example(index), codec, text=text)
        if prompt is not None and all(prompt[1] != other[1] for other in found):
            found.append(prompt)
    return found


def own_prompt(recipe: Recipe, codec: TextCodec, text: str, formats: Sequence[str]) -> list[int]:
    """Tokenize an author's prompt as the user's turn of the run's (first source's) template."""
    renderer = choose_renderer(recipe.template, formats[0], codec, recipe.stage)
    return renderer.prompt_ids(text)


def cut_prompt(tokens: Tokens, codec: TextCodec, *, text: bool) -> SamplePrompt | None:
    """Cut an example into prompt and answer; None where nothing stands before the answer."""
    if text:
        start = min(_TEXT_PROMPT_TOKENS, len(tokens.ids) // 2)
        stop = len(tokens.ids)
    else:
        stop = max(i for i, target in enumerate(tokens.target) if target) + 1
        start = stop
        while start > 0 and tokens.target[start - 1]:
            start -= 1
    prompt = list(tokens.ids[:start])
    if not prompt:
        return None
    answer = [i for i in tokens.ids[start:stop] if i not in codec.special_ids]
    shown = [i for i in prompt if i != codec.bos_id]
    return prompt, codec.decode(shown), codec.decode(answer).strip() or None
