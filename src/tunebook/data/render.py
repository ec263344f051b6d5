"""Write examples as the model will read them, with the parts that carry loss marked.

A plain template is a few words around prompt and answer; the model's own chat template is in
`tunebook.data.chat`. The wording of a template is part of the key of the token shards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tunebook.data.chat import KNOWLEDGE, ChatRenderer
from tunebook.data.chat_template import write_chat_template
from tunebook.data.codec import TextCodec
from tunebook.data.tokenize import Rendered, Segment
from tunebook.errors import DataError, DefectError
from tunebook.records import Example, Message


class Renderer(Protocol):
    """Writes examples in one template; `identity` changes whenever what it writes may change.

    `many_turns`: an example may have several answers, and what was said before stays in front.
    """

    name: str
    identity: str
    codec: TextCodec
    many_turns: bool

    def render(self, example: Example) -> Rendered:
        """Write a whole example, answers marked."""
        ...

    def prompt(self, example: Example) -> str:
        """Write an example up to its last answer."""
        ...

    def prompt_ids(self, asked: str | Example) -> list[int]:
        """Tokenize a prompt: an example's, or a text of the user's own as the user's turn."""
        ...


@dataclass(frozen=True, slots=True)
class _Wording:
    """A plain template: text before and after each role; an answer is the text and the end token.

    `answer` stands before an answer and belongs to it. With `many_turns` messages are written one
    to a line in their order, else what is asked comes first and what it is about after it.
    """

    with_input: tuple[str, str, str]
    without_input: tuple[str, str]
    system: tuple[str, str]
    between: str
    answer: str
    many_turns: bool


_ALPACA_HEAD = "Below is an instruction that describes a task"
_ALPACA_TAIL = "Write a response that appropriately completes the request."
_WORDINGS = {
    "alpaca": _Wording(
        with_input=(
            f"{_ALPACA_HEAD}, paired with an input that provides further context. {_ALPACA_TAIL}"
            "\n\n### Instruction:\n",
            "\n\n### Input:\n",
            "\n\n### Response:\n",
        ),
        without_input=(
            f"{_ALPACA_HEAD}. {_ALPACA_TAIL}\n\n### Instruction:\n",
            "\n\n### Response:\n",
        ),
        system=("", "\n\n"),
        between="",
        answer="",
        many_turns=False,
    ),
    "lines": _Wording(("", " ", ":"), ("", ":"), ("", "\n"), "", " ", False),
    "qa": _Wording(
        ("Question: ", "\n", "\nAnswer:"), ("Question: ", "\nAnswer:"), ("", "\n"), "", " ", False
    ),
    "chat": _Wording(
        ("User: ", "", "Assistant:"), ("User: ", "Assistant:"), ("System: ", "\n"), "\n", " ", True
    ),
    # Persona and scenario say what they are, so no word stands before them.
    "persona": _Wording(
        ("User: ", "", "Assistant:"), ("User: ", "Assistant:"), ("", "\n"), "\n", " ", True
    ),
    # A game goes on where its text ends: `1. e4 e5 2.` and then ` Nf3`.
    "pgn": _Wording(("", "\n", ""), ("", ""), ("", "\n"), "", " ", False),
    "none": _Wording(("", "\n", ""), ("", ""), ("", "\n"), "", "", False),
}
_PLAIN_OF_FORMAT = {
    "alpaca": "alpaca",
    "lines": "lines",
    "completion": "none",
    "chat": "chat",
    "sharegpt": "chat",
    "qa": "qa",
    "persona": "persona",
    "chess-uci": "pgn",
    "pgn": "pgn",
}


def prompt_form(template: str) -> str | None:
    """Show how a plain template asks one question, `{prompt}`; None for any other template."""
    wording = _WORDINGS.get(template)
    if wording is None:
        return None
    before, after = wording.without_input
    end_of_turn = "\n" if wording.many_turns else ""
    return f"{before}{{prompt}}{end_of_turn}{after}"


def choose_renderer(template: str, found_format: str, codec: TextCodec, stage: str) -> Renderer:
    """Choose how examples are written: text as it is, the model's chat template, or a plain one.

    Raises DataError when the template does not fit the stage or the tokenizer.
    """
    if stage == "cpt":
        if template not in ("auto", "none"):
            raise DataError(
                f"template: {template} is for prompts and responses, and stage cpt trains on plain "
                "text; leave `template` out"
            )
        return TextRenderer(codec)
    if template == "model" and not codec.has_chat_template:
        raise DataError(
            f"template: model needs a chat template, and the tokenizer of {codec.name} has none; "
            "say `template: chat` or alpaca, lines, qa, persona, none"
        )
    if template == "model" or (template == "auto" and codec.has_chat_template):
        return ChatRenderer(codec)
    name = _PLAIN_OF_FORMAT.get(found_format, "none") if template == "auto" else template
    return PlainRenderer(name, codec)


def reference(example: Example) -> str | None:
    """Give the last answer of an example, None when it has none."""
    answers = [m.content for m in example.messages if m.role == "assistant"]
    return answers[-1] if answers else None


def _require_end_token(codec: TextCodec, name: str) -> None:
    if codec.eos_id is None:
        raise DefectError(
            "eos-never-trained",
            f"template {name}: the tokenizer of {codec.name} has no end token, so answers could "
            "not learn to stop",
            "set eos_token in its tokenizer_config.json to a token that the model knows",
        )


class TextRenderer:
    """Writes text as it is, with the end token after each document."""

    name = "text"
    many_turns = False

    def __init__(self, codec: TextCodec) -> None:
        _require_end_token(codec, self.name)
        self.codec = codec
        self.identity = "text 1"

    def render(self, example: Example) -> Rendered:
        """Write a document, or several with the end token between; every character carries loss."""
        texts = [m.content for m in example.messages]
        segments = tuple(Segment(text, ((0, len(text)),), end=True) for text in texts)
        return Rendered(segments, begin=True, specials=False)

    def prompt(self, example: Example) -> str:
        """Write the whole text."""
        return "\n\n".join(m.content for m in example.messages)

    def prompt_ids(self, asked: str | Example) -> list[int]:
        """Tokenize a text to go on from."""
        text = asked if isinstance(asked, str) else self.prompt(asked)
        return _with_begin(self.codec, text)


class PlainRenderer:
    """Writes prompts and answers in a named plain template."""

    def __init__(self, name: str, codec: TextCodec) -> None:
        _require_end_token(codec, name)
        self.name = name
        self.codec = codec
        self._wording = _WORDINGS[name]
        self.many_turns = self._wording.many_turns
        self.identity = f"{name} 2 {self._wording!r}"

    def render(self, example: Example) -> Rendered:
        """Write an example; trained answers and the end token after each carry loss."""
        exchanges = self._exchanges(example)
        segments = []
        for place, (asked, answer) in enumerate(exchanges):
            prompt = self._prompt_text(asked, place)
            text = f"{prompt}{self._wording.answer}{answer.content}"
            spans = ((len(prompt), len(text)),) if answer.trained else ()
            segments.append(Segment(text, spans, end=True, end_carries=answer.trained))
        return Rendered(tuple(segments), begin=True, specials=False)

    def prompt(self, example: Example) -> str:
        """Write an example up to its last answer, end tokens left out."""
        texts = []
        exchanges = self._exchanges(example)
        for place, (asked, answer) in enumerate(exchanges):
            texts.append(self._prompt_text(asked, place))
            if place < len(exchanges) - 1:
                texts.append(f"{self._wording.answer}{answer.content}")
        return "".join(texts)

    def prompt_ids(self, asked: str | Example) -> list[int]:
        """Tokenize a prompt; for template lines a text that has a colon is taken as it is."""
        if isinstance(asked, str):
            if self.name == "lines" and ":" in asked:
                return _with_begin(self.codec, asked)
            return _with_begin(self.codec, self._prompt_text((Message("user", asked),), 0))
        ids = [] if self.codec.bos_id is None else [self.codec.bos_id]
        exchanges = self._exchanges(asked)
        for place, (turns, answer) in enumerate(exchanges):
            text = self._prompt_text(turns, place)
            last = place == len(exchanges) - 1
            ids += self.codec.encode(
                text if last else f"{text}{self._wording.answer}{answer.content}", specials=False
            )[0]
            if not last and self.codec.eos_id is not None:
                ids.append(self.codec.eos_id)
        return ids

    def chat_template(self) -> str:
        """Write the template in Jinja, as a tokenizer's chat template."""
        begin = self.codec.bos_id is not None
        return write_chat_template(self.name, self._wording, KNOWLEDGE, begin=begin)

    def _exchanges(self, example: Example) -> list[tuple[tuple[Message, ...], Message]]:
        """Pair each answer with the turns before it; turns after the last answer say nothing."""
        exchanges, asked = [], list[Message]()
        for message in example.messages:
            if message.role == "assistant":
                exchanges.append((tuple(asked), message))
                asked = []
            else:
                asked.append(message)
        if len(exchanges) > 1 and not self._wording.many_turns:
            raise DataError(
                f"{example.id}: template {self.name} takes one answer, and the row has "
                f"{len(exchanges)}; say `template: chat` or `template: persona`"
            )
        return exchanges

    def _prompt_text(self, asked: Sequence[Message], place: int) -> str:
        wording = self._wording
        between = wording.between if place else ""
        if wording.many_turns:
            return f"{between}{self._lines(asked)}{wording.without_input[1]}"
        system = "".join(
            f"{wording.system[0]}{m.content}{wording.system[1]}"
            for m in asked
            if m.role == "system"
        )
        user = "\n".join(m.content for m in asked if m.role in ("user", "text"))
        material = "\n".join(_material(m) for m in asked if m.role in ("input", "knowledge"))
        if material:
            before, middle, after = wording.with_input
            body = f"{before}{user}{middle}{material}{after}"
        else:
            body = f"{wording.without_input[0]}{user}{wording.without_input[1]}"
        return f"{between}{system}{body}"

    def _lines(self, asked: Sequence[Message]) -> str:
        """Write messages one to a line in their order; a speaker who goes on is named once."""
        wording, lines, last = self._wording, list[str](), ""
        for message in asked:
            if message.role == "system":
                lines.append(f"{wording.system[0]}{message.content}{wording.system[1]}")
            elif message.role in ("knowledge", "input") or last == "user":
                lines.append(f"{_material(message)}\n")
            else:
                lines.append(f"{wording.without_input[0]}{message.content}\n")
            last = message.role
        return "".join(lines)


def _material(message: Message) -> str:
    return f"{KNOWLEDGE if message.role == 'knowledge' else ''}{message.content}"


def _with_begin(codec: TextCodec, text: str) -> list[int]:
    begin = [] if codec.bos_id is None else [codec.bos_id]
    return [*begin, *codec.encode(text, specials=False)[0]]
