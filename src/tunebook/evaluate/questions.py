"""What weights are asked: questions from a file, or a run's own held-out examples."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from tunebook.data.codec import TextCodec
from tunebook.data.detect import detect
from tunebook.data.examples import Reader
from tunebook.data.filters import build_filters, chain_of
from tunebook.data.prepare import Prepared, validation_source
from tunebook.data.prompts import cut_prompt
from tunebook.data.render import Renderer, reference
from tunebook.data.rows import RawRow, read_rows
from tunebook.data.shards import Shards
from tunebook.data.sources import locate
from tunebook.errors import DataError
from tunebook.recipe.tree import Recipe, Source
from tunebook.records import Example, Message, Tokens

_KEYS = ("id", "prompt", "messages", "reference", "group", "tags", "facts")
_ROLES = ("system", "user", "input", "knowledge", "assistant")


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt of one or more turns; `reference` is what the data answers, None where unknown.

    `group` is the class of a probe (in, near, out) and `tags` the skills it needs. Questions of
    one `document` are not independent. `facts` are words of which a right answer has one.
    """

    id: str
    messages: tuple[Message, ...]
    reference: str | None = None
    group: str = ""
    tags: tuple[str, ...] = ()
    document: str = ""
    facts: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """What is asked, without a template."""
        return "\n\n".join(message.content for message in self.messages)

    @property
    def hash(self) -> str:
        """Hash what is asked and what is right."""
        said: list[object] = [[[m.role, m.content] for m in self.messages], self.reference]
        said += [self.facts] if self.facts else []  # without, hashes are those of older books
        return hashlib.sha256(orjson.dumps(said)).hexdigest()[:32]

    def prompt_ids(self, renderer: Renderer) -> list[int]:
        """Tokenize the question in a template, up to where the answer begins."""
        if all(message.role == "text" for message in self.messages):
            return renderer.prompt_ids(self.text)
        answer = Message("assistant", self.reference or "")
        return renderer.prompt_ids(Example(self.id, self.id, (*self.messages, answer)))


def read_questions(path: str) -> list[Question]:
    """Read questions from JSON rows of {prompt or messages, reference, group, tags, facts, id}.

    Any other file, and talks that end with an answer, are read as training data of any format.
    Raises DataError for what is no question, or none.
    """
    located = locate(path)
    first = next(iter(read_rows(located.files[0])), None) if _has_rows(located.files[0]) else None
    if first is not None and _is_question(first.values):
        rows = (row for file in located.files for row in read_rows(file))
        found = [_question(row) for row in rows]
    else:
        try:
            source = Source(path=path)
            reader = Reader(located, detect(located, source), source, "sft")
            found = [of_example(read.example) for read in reader.examples()]
        except DataError as error:
            if first is None:
                raise
            if {"prompt", "messages"} & first.values.keys():
                _question(first)  # says what is wrong with it as a question
            raise DataError(
                f"{first.place}: no question, which has `prompt` or `messages` (and may have "
                f"{', '.join(_KEYS[3:])}, id); read as training data: {error}"
            ) from None
    twice = next(iter(_repeated(found)), None)
    if twice is not None:
        raise DataError(f"{path}: two questions have the id {twice!r}; give each its own")
    return found


def _is_question(values: Mapping[str, object]) -> bool:
    """Tell a question from a row of training data, which has its answer among its own keys."""
    last = (_listed(values.get("messages")) or [None])[-1]
    answered = isinstance(last, Mapping) and last.get("role") == "assistant"
    return bool({"prompt", "messages"} & values.keys()) and not answered and {*values} <= {*_KEYS}


def _has_rows(file: Any) -> bool:
    return file.kind in ("json", "jsonl", "csv", "tsv", "parquet")


def _repeated(questions: Sequence[Question]) -> Iterator[str]:
    seen = set[str]()
    for question in questions:
        if question.id in seen:
            yield question.id
        seen.add(question.id)


def of_example(example: Example) -> Question:
    """Ask what an example answers last."""
    answers = [i for i, m in enumerate(example.messages) if m.role == "assistant"]
    asked = example.messages[: answers[-1]] if answers else example.messages
    return Question(example.id, asked, reference(example), document=example.document)


def _spread(held_out: Shards) -> NDArray[np.int64]:
    """Order examples by a hash of what they say: pieces of one document are not neighbours."""
    mixed = held_out.contents + held_out.windows.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    # The finalizer of SplitMix64 (Steele et al., 2014).
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed.argsort(kind="stable")


def _continue_text(tokens: Tokens, codec: TextCodec) -> Iterator[Question]:
    """Ask a text to go on after its first tokens; nothing where it is too short to cut."""
    if (cut := cut_prompt(tokens, codec, text=True)) is not None:
        _, text, answer = cut
        asked = (Message("text", text),)
        yield Question(tokens.id, asked, answer, document=tokens.document)


def _question(row: RawRow) -> Question:
    values = row.values
    unknown = [key for key in values if key not in _KEYS]
    if unknown:
        raise DataError(
            f"{row.place}: a question has no {unknown[0]!r}; it may have {', '.join(_KEYS)}"
        )
    if isinstance(values.get("messages"), list):
        messages = tuple(_message(row, each) for each in _listed(values["messages"]))
    else:
        messages = (Message("user", _text(row, "prompt", values.get("prompt"))),)
    stated = values.get("reference")
    return Question(
        id=str(values.get("id") or f"{row.file.path.stem}#{row.row}"),
        messages=messages,
        reference=None if stated is None else _text(row, "reference", stated),
        group=str(values.get("group") or ""),
        tags=_words(row, "tags"),
        facts=tuple(_text(row, "facts", fact) for fact in _words(row, "facts")),
    )


def _words(row: RawRow, key: str) -> tuple[str, ...]:
    found = row.values.get(key) or []
    if not isinstance(found, list):
        raise DataError(f"{row.place}: `{key}` is {found!r}; write a list of words")
    return tuple(str(one) for one in found)


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _message(row: RawRow, value: object) -> Message:
    if not isinstance(value, Mapping) or value.get("role") not in _ROLES:
        raise DataError(
            f"{row.place}: a message is {{role, content}} with a role of {', '.join(_ROLES)}, not "
            f"{value!r}"
        )
    return Message(value["role"], _text(row, "content", value.get("content")))


def _text(row: RawRow, key: str, value: object) -> str:
    if not isinstance(value, str) or (key != "reference" and not value.strip()):
        raise DataError(f"{row.place}: `{key}` is {value!r}; write a text")
    return value


def held_out_questions(
    recipe: Recipe, prepared: Prepared, codec: TextCodec, n: int | None = None
) -> list[Question]:
    """Ask what a run held out: the n rows (None: all) whose content hashes come first.

    Which rows these are depends on what they say alone, so that a run with more data is asked the
    same where it held out the same. Text is asked to go on after its first tokens. Raises DataError
    when nothing is held out.
    """
    held_out = prepared.validation
    if held_out is None:
        raise DataError(
            "nothing was held out of this run's data, so there is nothing to ask; say --questions"
        )
    order = _spread(held_out)[:n].tolist()
    if recipe.stage == "cpt":
        return [one for number in order for one in _continue_text(held_out.example(number), codec)]
    wanted: dict[str, set[tuple[int, int, int]]] = {}
    for number in order:
        name, place = held_out.place_of(number)
        wanted.setdefault(name, set()).add(place)
    sources = {one.name: source for one, source in zip(prepared.built, recipe.data, strict=True)}
    questions: list[Question] = []
    for name, places in wanted.items():
        source = sources.get(name) or validation_source(recipe)
        located = locate(source.path)
        chain = chain_of(build_filters(source.filters))
        for read in Reader(located, detect(located, source), source, recipe.stage).examples():
            if (read.file, read.row, read.sub) in places:
                # As it was trained on: rewrites have changed it.
                questions.append(of_example(chain.run(read.example).example))
    return questions
