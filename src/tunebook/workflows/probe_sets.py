"""What a probe asks: a run's held-out examples, unseen keywords, general questions, one's own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tunebook.data.codec import TextCodec
from tunebook.data.prepare import Prepared
from tunebook.data.render import Renderer
from tunebook.errors import DataError
from tunebook.evaluate.probes import GROUPS
from tunebook.evaluate.questions import Question, held_out_questions, read_questions
from tunebook.recipe.tree import Recipe
from tunebook.records import Message

_FOLDER = Path(__file__).parent.parent / "embedded" / "probes"
_TRAINING_ROWS = 5000


@dataclass(frozen=True, slots=True)
class ProbeSets:
    """`questions` by group in the order of GROUPS; `general` is text to read, not to answer.

    `training` holds answers (stage cpt: texts) the run was trained on, evenly from all of them.
    """

    questions: tuple[Question, ...]
    general: tuple[Question, ...]
    training: tuple[str, ...]


def collect_probes(
    recipe: Recipe, prepared: Prepared, renderer: Renderer, path: str | None, n: int
) -> ProbeSets:
    """Put the groups together; a group that the file has stands in place of the ready-made one.

    Raises DataError for a question of no known group, or when nothing was held out.
    """
    own: dict[str, list[Question]] = {}
    for question in read_questions(path) if path else ():
        if question.group not in GROUPS:
            raise DataError(
                f"{path}: question {question.id} is of the group {question.group!r}; the groups "
                f"of a probe are {', '.join(GROUPS)}"
            )
        own.setdefault(question.group, []).append(question)
    trained = list(_trained(prepared, renderer.codec))
    general = read_questions(str(_FOLDER / "general.jsonl"))
    if "in" not in own:
        own["in"] = held_out_questions(recipe, prepared, renderer.codec, n)
    if "near" not in own and renderer.name == "lines":
        own["near"] = _keywords({prompt.strip().rstrip(":").lower() for prompt, _ in trained})
    own.setdefault("out", general)
    chosen = [
        replace(q, id=f"{group}/{q.id}", group=group, messages=asked(q, recipe.stage))
        for group in GROUPS
        for q in own.get(group, ())
    ]
    return ProbeSets(tuple(chosen), tuple(general), tuple(answer for _, answer in trained))


def asked(question: Question, stage: str) -> tuple[Message, ...]:
    """Ask a model of plain text to go on with the words of a question."""
    return (Message("text", question.text),) if stage == "cpt" else question.messages


def _keywords(seen: set[str]) -> list[Question]:
    words = (_FOLDER / "keywords.txt").read_text(encoding="utf-8").split()
    return [Question(word, (Message("user", word),)) for word in words if word not in seen]


def _trained(prepared: Prepared, codec: TextCodec) -> Iterator[tuple[str, str]]:
    """Give prompts and answers of training examples, the same share of each source."""
    total = sum(len(shards) for shards in prepared.train.sources)
    step = max(1, -(-total // _TRAINING_ROWS))
    for shards in prepared.train.sources:
        for number in range(0, len(shards), step):
            tokens = shards.example(number)
            sides = [
                [i for i, flag in zip(tokens.ids, tokens.target, strict=True) if flag is answered]
                for answered in (False, True)
            ]
            prompt, answer = (codec.decode(_shown(ids, codec)) for ids in sides)
            yield prompt, answer


def _shown(ids: Sequence[int], codec: TextCodec) -> list[int]:
    return [i for i in ids if i not in codec.special_ids]
