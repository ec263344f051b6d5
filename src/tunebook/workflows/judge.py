"""What `tunebook judge` does: let a judge score what a run and its base answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from tunebook.book.codec import to_plain
from tunebook.book.data_account import read_data
from tunebook.book.evaluations import EvaluationLog, open_log, scores_of, write_result
from tunebook.book.places import open_run
from tunebook.data.prepare import prepare
from tunebook.evaluate.judge.asking import Task
from tunebook.evaluate.judge.client import JudgeError
from tunebook.evaluate.judge.summary import SCALE, call_details, judged_details, tag_scores
from tunebook.evaluate.questions import Question, held_out_questions, read_questions
from tunebook.models.generate import Sampling
from tunebook.records import Evaluation, Message
from tunebook.statistics.compare import compare_many
from tunebook.statistics.estimate import mean_estimate
from tunebook.statistics.items import hash_keys
from tunebook.statistics.noise import variance_components
from tunebook.workflows.answers import answer
from tunebook.workflows.judge_anchor import Anchor, check_anchor, era_of
from tunebook.workflows.judging import Bench, score_tasks, why_none
from tunebook.workflows.notebook import build_notebook
from tunebook.workflows.prefixes import asked_in
from tunebook.workflows.speakers import Trained, open_run_to_ask
from tunebook.workflows.weights import BASE


@dataclass(frozen=True, slots=True)
class Asked:
    """What is judged: `questions` is a file (None: what the run held out), `n` how many of it.

    `template` takes the place of the run's own.
    """

    questions: str | None = None
    n: int = 110
    repeats: int = 1
    max_new_tokens: int = 256
    anchor: bool = False
    template: str | None = None


def judge_run(
    name: str,
    book: Path,
    bench: Bench,
    asked: Asked,
    *,
    weights: Sequence[str] = ("final",),
    device: str | None = None,
    say: Callable[[str], None] = lambda _text: None,
) -> list[Evaluation]:
    """Judge what each of the weights answers, the base first; the others are compared with it.

    Answers and scores made before are used again. Raises JudgeError when the judge cannot be
    asked; what it said is kept, and the same call goes on from there.
    """
    run = open_run(book, name)
    bench.judge.refuse_unusable()  # said before answers are written
    trained = open_run_to_ask(run, (BASE, *weights), device=device, say=say)
    questions = choose_questions(trained, asked, say)
    answers = answers_to(questions, trained, asked, say)
    tasks = _tasks(questions, answers, asked.repeats)
    anchor = check_anchor(run, bench, tasks, say) if asked.anchor else None
    era = era_of(run, bench)
    asked_for = {
        **bench.settings,
        "era": era,
        "questions": asked.questions or "held out",
        "examples": hash_keys((q.id, q.hash) for q in questions),
        "repeats": asked.repeats,
        "template": asked.template or trained.recipe.template,
    }
    with ExitStack() as stack:
        logs = {}
        for subject in trained.subjects:
            own = {"weights": subject.weights, "answers": answers[subject.name].path.stem}
            log = stack.enter_context(open_log(run, "judge", subject.name, asked_for | own))
            logs[subject.name] = log
        now = score_tasks(run, bench, tasks, logs, era=era, say=say)
    found = _evaluations(trained, bench, logs, asked_for, anchor)
    build_notebook(book, say)
    return [
        with_call(one, call_details(logs[one.subject].rows, now[one.subject], bench.judge))
        for one in found
    ]


def with_call(done: Evaluation, call: Mapping[str, object]) -> Evaluation:
    """Add what a call asked to what is told of it; what is written counts all calls."""
    return replace(done, details={**done.details, "this_call": call})


def choose_questions(trained: Trained, asked: Asked, say: Callable[[str], None]) -> list[Question]:
    """Choose what is asked: what the run held out, or rows of a file, by a hash of content."""
    if asked.questions is None:
        prepared = prepare(trained.recipe, trained.codec, trained.run.cache_dir, say)
        found = held_out_questions(trained.recipe, prepared, trained.codec, asked.n)
    else:
        found = sorted(read_questions(asked.questions), key=lambda one: one.hash)[: asked.n]
    if len(found) < asked.n:
        say(f"there are {len(found):,} questions, fewer than {asked.n:,}")
    return found


def answers_to(
    questions: Sequence[Question], trained: Trained, asked: Asked, say: Callable[[str], None]
) -> dict[str, EvaluationLog]:
    """Let each of the weights answer with its most likely tokens."""
    return answer(
        trained,
        questions,
        Sampling(asked.max_new_tokens),
        template=asked_in(trained.recipe, asked.template).template,
        data_format=str(read_data(trained.run)["sources"][0]["format"]),
        say=say,
    )


def texts_of(log: EvaluationLog) -> dict[tuple[str, str], str]:
    """Give the answers of a log by item id and hash."""
    return {(line["item_id"], line["item_hash"]): str(line["text"]) for line in log.rows}


def _tasks(
    questions: Sequence[Question], answers: Mapping[str, EvaluationLog], repeats: int
) -> list[Task]:
    """Put the weights in turn for each question: a judge that drifts, drifts for all alike."""
    said = {name: texts_of(log) for name, log in answers.items()}
    return [
        Task(
            subject=name,
            item_id=question.id,
            item_hash=question.hash,
            question=conversation(question.messages),
            reference=question.reference,
            answer=said[name][question.id, question.hash],
            repeat=repeat,
            cluster=question.document,
            tags=question.tags,
        )
        for question in questions
        for repeat in range(repeats)
        for name in said
    ]


def conversation(messages: Sequence[Message]) -> str:
    """Write a question as the judge reads it; who speaks matters where several do."""
    if all(message.role in ("user", "input", "text") for message in messages):
        return "\n\n".join(message.content for message in messages)
    return "\n\n".join(f"{message.role}: {message.content}" for message in messages)


def _evaluations(
    trained: Trained,
    bench: Bench,
    logs: Mapping[str, EvaluationLog],
    settings: Mapping[str, object],
    anchor: Anchor | None,
) -> list[Evaluation]:
    rows = {s.name: scores_of(logs[s.name].rows, s.label) for s in trained.subjects}
    for name, own in rows.items():
        if all(row.value is None for row in own):
            counted = judged_details(logs[name].rows, bench.judge)["missing_by_fault"]
            why = why_none(bench, counted, logs[name])
            raise JudgeError(f"no answer of {name} got a score{why}")
    pairs = [(name, BASE) for name in rows if name != BASE]
    compared = compare_many(rows, pairs, scale=SCALE)
    found = []
    for subject in trained.subjects:
        log = logs[subject.name]
        estimate = mean_estimate(rows[subject.name], "bca", SCALE)
        details = judged_details(log.rows, bench.judge) | {
            "bounds": estimate.bounds,
            "noise": variance_components(rows[subject.name]),
            "per_tag": tag_scores(rows[subject.name]),
            "anchor": anchor,
        }
        one = Evaluation(
            kind="judge",
            subject=subject.name,
            unit=f"points of 100, {bench.judge.model}, prompt {bench.prompt.name}",
            score=estimate.score,
            interval=estimate.interval,
            n=estimate.n,
            missing=estimate.missing,
            examples_hash=estimate.examples_hash,
            settings={"weights": subject.weights, **settings},
            details=to_plain(details),
            against=None if subject.name == BASE else BASE,
            comparison=compared.get((subject.name, BASE)),
        )
        found.append(write_result(trained.run, log.path, one))
    return found
