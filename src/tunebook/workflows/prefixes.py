"""Whether a model is asked in words that it was trained on: what stands before each role."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import get_args

from tunebook.data.order import TrainSet
from tunebook.data.prepare import prepare
from tunebook.data.render import Renderer
from tunebook.errors import TunebookError, UsageError
from tunebook.evaluate.questions import Question
from tunebook.recipe.tree import Recipe, TemplateName
from tunebook.records import Finding
from tunebook.workflows.speakers import Trained

_LOOKED_AT = 20_000
ASKED = 200
"""How many questions are looked at."""


def asked_in(recipe: Recipe, template: str | None) -> Recipe:
    """Put a template in place of a run's own (None: leave it); UsageError for an unknown one."""
    known = get_args(TemplateName)
    if template is not None and template not in known:
        raise UsageError(f"`{template}` is no template; there is {', '.join(known)}")
    return recipe if template is None else recipe.model_copy(update={"template": template})


def find_untrained_prefixes(
    trained: Trained, questions: Sequence[Question], renderer: Renderer, train: TrainSet
) -> Finding | None:
    """Warn of words before a role that stand in the questions and in no training example.

    Looks at the text that the tokens of both stand for, whichever code wrote them.
    """
    asked = {
        prefix: role
        for question in questions[:ASKED]
        for role, prefix in _prefixes(question, renderer, trained)
    }
    missing, looked_at = dict(asked), 0
    for text in _training_texts(trained, train):
        looked_at += 1
        missing = {prefix: role for prefix, role in missing.items() if prefix not in text}
        if not missing:
            return None
    named = ", ".join(f"{prefix[-60:]!r} before the {role}" for prefix, role in missing.items())
    return Finding(
        name="probe-template-mismatch",
        level="warn",
        message=f"{named} is asked with, and stands in none of {looked_at:,} training examples.",
        evidence={"missing": {v: k for k, v in missing.items()}, "examples_read": looked_at},
        way_out="ask with the run's own template and the roles of its data, or read the scores as "
        "those of a model that never saw such a prompt",
    )


def warn_of_prefixes(
    trained: Trained,
    questions: Sequence[Question],
    renderer: Renderer,
    say: Callable[[str], None],
) -> list[Finding]:
    """Find and say what was never trained; data that is gone is said and no finding."""
    if trained.recipe.stage == "cpt":
        return []
    try:
        prepared = prepare(trained.recipe, trained.codec, trained.run.cache_dir, lambda _text: None)
    except TunebookError as error:
        say(f"whether its data knows this template cannot be told: {error}")
        return []
    found = find_untrained_prefixes(trained, questions, renderer, prepared.train)
    if found is None:
        return []
    say(f"{found.name}: {found.message} {found.way_out}")
    return [found]


def _prefixes(
    question: Question, renderer: Renderer, trained: Trained
) -> Iterator[tuple[str, str]]:
    """Cut a question as it is asked into what stands before each message, and before the answer."""
    text = trained.codec.decode(question.prompt_ids(renderer))
    place = 0
    for message in question.messages:
        at = text.find(message.content.strip(), place)
        if at < 0:
            continue
        if prefix := text[place:at].strip():
            yield message.role, prefix
        place = at + len(message.content.strip())
    if prefix := text[place:].strip():
        yield "answer", prefix


def _training_texts(trained: Trained, train: TrainSet) -> Iterator[str]:
    """Decode training examples, evenly spaced where there are many."""
    for shards in train.sources:
        stride = max(1, len(shards) * len(train.sources) // _LOOKED_AT)
        for number in range(0, len(shards), stride):
            yield trained.codec.decode(shards.example(number).ids)
