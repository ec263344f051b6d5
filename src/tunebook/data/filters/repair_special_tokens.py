"""Take special tokens that stand in the data as plain text out of it."""

from __future__ import annotations

import dataclasses
import re

from tunebook.data.filters.chain import Rewrite
from tunebook.records import Example, Message

KNOWN = (
    *("<|endoftext|>", "<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|eom_id|>"),
    *("<|start_header_id|>", "<|end_header_id|>", "<|im_start|>", "<|im_end|>", "<|startoftext|>"),
    *("<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|pad|>", "<|padding|>"),
    *("<s>", "</s>", "<pad>", "<unk>", "<bos>", "<eos>", "[BOS]", "[EOS]", "[PAD]", "<mask>"),
    *("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "<start_of_turn>", "<end_of_turn>"),
)
"""Strings of the special tokens of common models."""

_BOUNDARIES = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "[EOS]")


class RepairSpecialTokens(Rewrite):
    """Takes the text of special tokens out of rows; rendering puts the model's own ones in.

    Those at the ends go with the white space beside them, those inside become one space. In plain
    text the end of a document, such as `<|endoftext|>`, parts what is before it from what is after
    it: both are then texts of their own, and the model's end token is trained between them. `also`
    names further strings, white space between them.
    """

    def __init__(self, also: str = "") -> None:
        strings = sorted({*KNOWN, *also.split()}, key=lambda s: (-len(s), s))
        either = "|".join(map(re.escape, strings))
        ends = "|".join(map(re.escape, _BOUNDARIES))
        self._inside = re.compile(rf"[ \t]*(?:(?:{either})[ \t]*)+")
        self._outside = re.compile(rf"\A\s*(?:(?:{either})\s*)+|\s*(?:(?:{either})\s*)+\Z")
        self._boundary = re.compile(rf"\s*(?:(?:{ends})\s*)+")
        self._firsts = tuple({s[0] for s in strings})

    def rewrite(self, example: Example) -> Example:
        """Give the row without them, the very same object when it has none."""
        if not any(first in m.content for m in example.messages for first in self._firsts):
            return example
        messages = tuple(after for m in example.messages for after in self._repair(m))
        if messages == example.messages:
            return example
        return dataclasses.replace(example, messages=messages)

    def _repair(self, message: Message) -> list[Message]:
        if not self._inside.search(message.content):
            return [message]
        text = self._outside.sub("", message.content)
        parts = self._boundary.split(text) if message.role == "text" else [text]
        cleaned = [self._inside.sub(" ", self._outside.sub("", part)) for part in parts]
        kept = [part for part in cleaned if part] or [""]
        return [dataclasses.replace(message, content=part) for part in kept]
