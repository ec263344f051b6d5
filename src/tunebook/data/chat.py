"""Write conversations through the model's own chat template, and find the answers in the text.

An answer is what the template adds to the rendering of everything before it (with its generation
prompt), up to and including the first special token after the content. So the mask holds for any
template whose rendering of a conversation begins with that of its beginning.

Templates want user and assistant in turn and know no other roles: persona and scenario are one
system message, and knowledge stands in front of the user's turn it belongs to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tunebook.data.codec import TextCodec
from tunebook.data.tokenize import Rendered, Segment
from tunebook.errors import DataError, DefectError, TunebookError
from tunebook.records import Example, Message

# A noncharacter: Unicode promises that no text holds it. It breaks special strings apart while a
# template is rendered, and marks where the text is cut before it is tokenized.
_CUT = "\ufdd0"

Turn = Mapping[str, str]

KNOWLEDGE = "Relevant Knowledge: "
"""What stands before a fact that an answer is to be taken from."""


class ChatRenderer:
    """Writes examples through the tokenizer's chat template."""

    name = "model"
    many_turns = True

    def __init__(self, codec: TextCodec) -> None:
        self.codec = codec
        self.identity = f"model 2 {codec.chat_template}"
        if codec.normalizes_specials:
            self.identity += " normalized"
        self._specials = sorted(filter(None, codec.special_strings), key=len, reverse=True)
        self._user_first = self._wants_user_first()

    def _wants_user_first(self) -> bool:
        """Find out whether the template refuses a talk that the assistant begins."""
        begun = [{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]
        try:
            self.codec.render_chat(begun, add_generation_prompt=True)
        except TunebookError:
            return True
        return False

    def render(self, example: Example) -> Rendered:
        """Write an example; trained answers up to their end token carry loss.

        Raises DefectError when the template's rendering of a beginning does not begin the whole.
        """
        turns, trained, n_specials = self._turns(example)
        whole = self._write(turns, example.id, add_generation_prompt=False)
        spans, unended = [], 0
        for place, turn in enumerate(turns):
            if not trained[place]:
                continue
            before = self._write(turns[:place], example.id, add_generation_prompt=True)
            after = self._write(turns[: place + 1], example.id, add_generation_prompt=False)
            if not after.startswith(before) or not whole.startswith(after):
                raise DefectError(
                    "template-not-prefix-preserving",
                    f"{example.id}: the chat template of {self.codec.name} writes the beginning of "
                    "a conversation differently once more follows, so answers cannot be told from "
                    "prompts",
                    "say `template: chat`",
                )
            end, is_ended = self._answer_end(after, len(before), turn["content"])
            spans.append((len(before), end))
            unended += not is_ended
        return Rendered(
            _cut(whole, spans),
            begin=False,
            specials=True,
            split_specials=n_specials,
            unended=unended,
        )

    def prompt(self, example: Example) -> str:
        """Write an example up to its last answer, as the model is asked."""
        return self._prompt(example).replace(_CUT, "")

    def prompt_ids(self, asked: str | Example) -> list[int]:
        """Tokenize a prompt; a text of the user's own becomes the user's turn."""
        if isinstance(asked, str):
            asked = Example("prompt", "prompt", (Message("user", asked),))
        pieces = self._prompt(asked).split(_CUT)
        return [i for piece in pieces for i in self.codec.encode(piece, specials=True)[0]]

    def _prompt(self, example: Example) -> str:
        turns, *_ = self._turns(example)
        answers = [place for place, turn in enumerate(turns) if turn["role"] == "assistant"]
        asked = turns[: answers[-1]] if answers else turns
        return self._write(asked, example.id, add_generation_prompt=True)

    def _turns(self, example: Example) -> tuple[list[dict[str, str]], list[bool], int]:
        """Give the messages as the template's turns, and which of them carry loss.

        Every special string in them is broken; the last value counts how many there were.
        """
        turns: list[dict[str, str]] = []
        trained: list[bool] = []
        n_specials = 0
        only_facts = False  # the last turn is a user's and holds nothing but knowledge yet
        for message in example.messages:
            content, n_found = self._break(message.content.replace(_CUT, ""))
            n_specials += n_found
            last = turns[-1]["role"] if turns else ""
            if message.role == "input" and turns:
                turns[-1]["content"] += f"\n\n{content}"
            elif message.role == "knowledge" and last == "user":
                turns[-1]["content"] = f"{KNOWLEDGE}{content}\n\n{turns[-1]['content']}"
            elif message.role == "user" and only_facts:
                turns[-1]["content"] += f"\n\n{content}"
            elif message.role == "system" and last == "system":
                turns[-1]["content"] += f"\n{content}"
            else:
                self._begin_turn(turns, trained, message, content)
            only_facts = message.role == "knowledge" and (only_facts or last != "user")
        return turns, trained, n_specials

    def _begin_turn(
        self, turns: list[dict[str, str]], trained: list[bool], message: Message, content: str
    ) -> None:
        role = message.role if message.role in ("system", "assistant") else "user"
        if role == "assistant" and self._user_first and all(t["role"] == "system" for t in turns):
            turns.append({"role": "user", "content": ""})
            trained.append(False)
        fact = KNOWLEDGE if message.role == "knowledge" else ""
        turns.append({"role": role, "content": f"{fact}{content}"})
        trained.append(role == "assistant" and message.trained)

    def _break(self, text: str) -> tuple[str, int]:
        n_found = 0
        for special in self._specials:
            if len(special) > 1 and special in text:
                n_found += text.count(special)
                text = text.replace(special, special[0] + _CUT + special[1:])
        if not self.codec.normalizes_specials:
            return text, n_found
        pieces = [self._break_lookalikes(piece) for piece in text.split(_CUT)]
        return _CUT.join(piece for piece, _ in pieces), n_found + sum(n for _, n in pieces)

    def _break_lookalikes(self, text: str) -> tuple[str, int]:
        """Break what only the tokenizer's normalizer makes a special token, however it is spelt."""
        ids, places = self.codec.encode(text, specials=True)
        cuts = [
            start + 1
            for token, (start, end) in zip(ids, places, strict=True)
            if token in self.codec.special_ids and end - start > 1
        ]
        edges = [0, *cuts, len(text)]
        return _CUT.join(text[a:b] for a, b in zip(edges, edges[1:], strict=False)), len(cuts)

    def _write(self, turns: Sequence[Turn], example_id: str, *, add_generation_prompt: bool) -> str:
        if not turns:
            # Many templates look at the first message; before it there is only what they begin
            # with, and no conversation is asked to begin with an answer.
            return ""
        try:
            return self.codec.render_chat(turns, add_generation_prompt=add_generation_prompt)
        except TunebookError as error:
            raise DataError(
                f"{example_id}: {error}; a plain template takes it, as `template: persona`"
            ) from None

    def _answer_end(self, text: str, start: int, content: str) -> tuple[int, bool]:
        """Find where an answer ends, and whether by a special string behind its content."""
        said = content.strip()
        found = text.find(said, start)
        behind = found + len(said) if found >= 0 else start
        ends = [
            (at, -len(special))
            for special in self._specials
            if (at := text.find(special, behind)) >= 0
        ]
        if not ends:
            return max(behind, start + len(text[start:].rstrip())), False
        at, negative_length = min(ends)
        return at - negative_length, True


def _cut(text: str, spans: Sequence[tuple[int, int]]) -> tuple[Segment, ...]:
    """Cut text at the marks and drop them; spans are in the text with marks."""
    segments, start = [], 0
    for piece in text.split(_CUT):
        stop = start + len(piece)
        inside = tuple(
            (max(a, start) - start, min(b, stop) - start)
            for a, b in spans
            if a < stop and b > start
        )
        segments.append(Segment(piece, inside, end=False))
        start = stop + 1
    return tuple(segments)
