"""What `tunebook judge --pairwise` does: which of two answers is better, shown in both orders."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tunebook.book.codec import to_plain
from tunebook.book.evaluations import open_log, scores_of, write_result
from tunebook.book.places import open_run
from tunebook.evaluate.judge.asking import Task
from tunebook.evaluate.judge.client import JudgeError
from tunebook.evaluate.judge.summary import call_details, judged_details
from tunebook.evaluate.questions import Question
from tunebook.records import Evaluation, ItemScore
from tunebook.statistics.compare import compare
from tunebook.statistics.items import hash_keys
from tunebook.statistics.pairwise import PairScore, length_controlled, win_rate
from tunebook.workflows.judge import (
    Asked,
    answers_to,
    choose_questions,
    conversation,
    texts_of,
    with_call,
)
from tunebook.workflows.judge_anchor import era_of
from tunebook.workflows.judging import Bench, score_tasks, why_none
from tunebook.workflows.notebook import build_notebook
from tunebook.workflows.speakers import open_run_to_ask
from tunebook.workflows.weights import BASE

MARGIN = 0.05
"""Win rates within this of one half are as good as one half."""

Texts = Mapping[tuple[str, str], str]
"""Answers by item id and hash."""


def judge_pairs(
    name: str,
    book: Path,
    bench: Bench,
    asked: Asked,
    *,
    against: str,
    weights: str = "final",
    device: str | None = None,
    say: Callable[[str], None] = lambda _text: None,
) -> Evaluation:
    """Let the judge choose between a run's answers and those of another run, or of its base.

    `weights` names those of the run (final, best, step-N); of another run it is always the final
    ones. The score is the share of questions won, ties one half. Raises JudgeError as `judge_run`
    does.
    """
    run = open_run(book, name)
    bench.judge.refuse_unusable()
    names = (weights, BASE) if against == BASE else (weights,)
    one = open_run_to_ask(run, names, device=device, say=say)
    questions = choose_questions(one, asked, say)
    answers = answers_to(questions, one, asked, say)
    ours, other = answers[weights], one.subjects[-1]
    if against != BASE:
        two = open_run_to_ask(open_run(book, against), ("final",), device=device, say=say)
        answers, other = answers_to(questions, two, asked, say), two.subjects[0]
    theirs = answers[other.name]
    our_texts, their_texts = texts_of(ours), texts_of(theirs)
    tasks = _tasks(questions, weights, our_texts, their_texts, asked.repeats)
    era = era_of(run, bench)
    settings = {
        **bench.settings,
        "era": era,
        "weights": one.subjects[0].weights,
        "against": {"name": against, "weights": other.weights, "answers": theirs.path.stem},
        "answers": ours.path.stem,
        "questions": asked.questions or "held out",
        "examples": hash_keys((q.id, q.hash) for q in questions),
        "repeats": asked.repeats,
    }
    with open_log(run, "pairs", weights, settings) as log:
        now = score_tasks(run, bench, tasks, {weights: log}, era=era, say=say)
    rows = scores_of(log.rows, one.subjects[0].label)
    details = judged_details(log.rows, bench.judge)
    if all(row.value is None for row in rows):
        counted = details["missing_by_fault"]
        raise JudgeError(f"no pair got a choice{why_none(bench, counted, log)}")
    # Logs of answers may hold more questions than were asked here.
    lengths = {k: (len(our_texts[k]), len(their_texts[k])) for k in our_texts.keys() & their_texts}
    found = pairs_evaluation(weights, rows, lengths, settings, details)
    done = write_result(run, log.path, found)
    build_notebook(book, say)
    return with_call(done, call_details(log.rows, now[weights], bench.judge))


def _tasks(
    questions: Sequence[Question], subject: str, ours: Texts, theirs: Texts, repeats: int
) -> list[Task]:
    """Show each pair in both orders, its own answer second in even repeats."""
    return [
        Task(
            subject=subject,
            item_id=question.id,
            item_hash=question.hash,
            question=conversation(question.messages),
            reference=question.reference,
            answer=(theirs, ours)[repeat % 2][question.id, question.hash],
            other=(ours, theirs)[repeat % 2][question.id, question.hash],
            swapped=repeat % 2 == 0,
            repeat=repeat,
            cluster=question.document,
            tags=question.tags,
        )
        for question in questions
        for repeat in range(2 * repeats)
    ]


def pairs_evaluation(
    subject: str,
    rows: Sequence[ItemScore],
    lengths: Mapping[tuple[str, str], tuple[int, int]],
    settings: Mapping[str, Any],
    details: Mapping[str, Any],
) -> Evaluation:
    """Sum choices up: rows in both orders (odd repeats show the run's answer first), and lengths
    in characters, its own and the other's, by item."""
    against = settings["against"]["name"]
    pairs = [
        PairScore(
            row.item_id,
            row.item_hash,
            row.run,
            against,
            a_first=row.repeat % 2 == 1,
            outcome=row.value,
            length_a=lengths[row.item_id, row.item_hash][0],
            length_b=lengths[row.item_id, row.item_hash][1],
            repeat=row.repeat // 2,
            cluster=row.cluster,
        )
        for row in rows
    ]
    won = win_rate(pairs)
    # The three words come from the same test as everywhere: each item against a draw, which misses
    # what the item misses, so that nothing but the share of it forbids a verdict.
    draw = [replace(row, value=None if row.value is None else 0.5) for row in rows]
    compared = compare(rows, draw, margin=MARGIN, scale=(0.0, 1.0))
    found = won.estimate
    return Evaluation(
        kind="pairs",
        subject=subject,
        unit=f"share of questions won, {settings['judge']['model']}",
        score=None if found is None else found.score,
        interval=None if found is None else found.interval,
        n=compared.n,
        missing=compared.missing_a,
        examples_hash=compared.examples_hash,
        settings=settings,
        details=to_plain(
            {**details, "win_rate": won, "length_controlled": length_controlled(pairs)}
        ),
        against=against,
        comparison=None if found is None else compared,
    )
