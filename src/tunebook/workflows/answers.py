"""Answers to questions, kept in the run folder and shared by whatever looks at them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict

from tunebook.book.evaluations import EvaluationLog
from tunebook.data.render import Renderer, choose_renderer
from tunebook.evaluate.questions import Question
from tunebook.models.generate import Sampling, end_ids, generate
from tunebook.workflows.prefixes import warn_of_prefixes
from tunebook.workflows.speakers import Job, Key, Speaker, Trained, ask_all

# Written at once; a kill loses so many and the batch that was being written.
_KEPT_EVERY = 32


def answer(
    trained: Trained,
    questions: Sequence[Question],
    sampling: Sampling,
    *,
    template: str,
    data_format: str,
    repeats: int = 1,
    seed: int = 0,
    say: Callable[[str], None] = lambda _text: None,
) -> dict[str, EvaluationLog]:
    """Let each of the weights answer each question `repeats` times, where it has not yet.

    Gives a log by name of the weights; a line has `question`, `reference`, `tags`, `text`, `ids`,
    their number `tokens`, `ended` (False: cut at `max_new_tokens`) and `left_out`, the tokens of
    the prompt there was no room for.
    Weights that are compared draw with the same seeds. Words before a role that the run was never
    trained on are told to `say`.
    """
    renderer = choose_renderer(template, data_format, trained.codec, trained.recipe.stage)
    warn_of_prefixes(trained, questions, renderer, say)
    job = answering(questions, sampling, renderer, repeats=repeats, seed=seed, say=say)
    return ask_all(trained, [job])[0]


def answering(
    questions: Sequence[Question],
    sampling: Sampling,
    renderer: Renderer,
    *,
    repeats: int,
    seed: int,
    say: Callable[[str], None],
) -> Job:
    """Give the job of answering questions, for `ask_all`; its lines are those of `answer`."""
    by_key = {
        (q.id, q.hash, repeat): (q, _seed(seed, q, repeat))
        for q in questions
        for repeat in range(repeats)
    }
    settings = {"template": renderer.identity, "sampling": asdict(sampling), "seed": seed}

    def ask(speaker: Speaker, log: EvaluationLog, keys: list[Key]) -> None:
        say(f"{speaker.subject.label}: {len(keys)} answers to write")
        prompts = [by_key[key][0].prompt_ids(renderer) for key in keys]
        seeds = [by_key[key][1] for key in keys]
        ends = end_ids(speaker.loaded, speaker.codec.eos_id)
        lines = []
        for number, found in generate(speaker.loaded, prompts, sampling, ends, seeds):
            item_id, item_hash, repeat = keys[number]
            question = by_key[keys[number]][0]
            shown = [i for i in found.ids if i not in speaker.codec.special_ids]
            lines.append(
                {
                    "item_id": item_id,
                    "item_hash": item_hash,
                    "repeat": repeat,
                    "question": question.text,
                    "reference": question.reference,
                    "tags": [*question.tags, *filter(None, [question.group])],
                    "text": speaker.codec.decode(shown).strip(),
                    "ids": found.ids,
                    "tokens": len(found.ids),
                    "ended": found.ended,
                    "left_out": found.left_out,
                }
            )
            if len(lines) >= _KEPT_EVERY:
                log.add(lines)
                lines = []
        log.add(lines)

    return Job("answers", settings, list(by_key), ask)


def _seed(seed: int, question: Question, repeat: int) -> int:
    """Draw a seed from what is asked alone: the order of the questions does not matter."""
    text = f"{seed} {question.hash} {repeat}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "little")
