"""What `tunebook probe --facts` does: answers with a fact given, and without it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tunebook.book.codec import to_plain
from tunebook.book.data_account import read_data
from tunebook.book.evaluations import EvaluationLog, open_log, write_result
from tunebook.book.places import open_run
from tunebook.evaluate.facts import (
    MATCH,
    Shares,
    from_memory,
    measure_facts,
    read_fact_questions,
    says,
)
from tunebook.evaluate.questions import Question
from tunebook.models.generate import Sampling
from tunebook.records import Evaluation, ItemScore
from tunebook.statistics.items import hash_keys
from tunebook.workflows.answers import answer
from tunebook.workflows.notebook import build_notebook
from tunebook.workflows.probe_sets import asked
from tunebook.workflows.speakers import Subject, open_run_to_ask
from tunebook.workflows.weights import BASE

_Pair = tuple[Question, Question]


def probe_facts(
    name: str,
    book: Path,
    path: str,
    *,
    weights: Sequence[str] = (BASE, "final"),
    sampling: Sampling,
    repeats: int = 4,
    seed: int = 0,
    device: str | None = None,
    say: Callable[[str], None] = lambda _text: None,
) -> list[Evaluation]:
    """Ask questions with the turn that states a fact and without it, and count who says the fact.

    One evaluation for each of the weights; those after the first are also held against the first.
    What was asked before is used again. An answer to a prompt that had to be cut is missing.
    Raises BookError or UsageError for weights that are not there, DataError for the questions.
    """
    run = open_run(book, name)
    questions = read_fact_questions(path)
    trained = open_run_to_ask(run, weights, device=device, say=say)
    recipe = trained.recipe
    pairs: list[tuple[Question, _Pair]] = []
    for question in questions:
        given, memory = (
            replace(each, messages=asked(each, recipe.stage))
            for each in (question, from_memory(question))
        )
        pairs.append((question, (given, memory)))
    answers = answer(
        trained,
        [each for _, pair in pairs for each in pair],
        sampling,
        template=recipe.template,
        data_format=str(read_data(run)["sources"][0]["format"]),
        repeats=repeats,
        seed=seed,
        say=say,
    )
    settings = {
        "facts": path,
        "first": trained.subjects[0].name,
        "questions": hash_keys((q.id, q.hash) for q in questions),
        "match": MATCH,
        "sampling": asdict(sampling),
        "repeats": repeats,
        "seed": seed,
    }
    with ExitStack() as stack:
        logs: dict[str, EvaluationLog] = {}
        for subject in trained.subjects:
            said = answers[subject.name]
            own = {"weights": subject.weights, "answers": said.path.stem, **settings}
            log = stack.enter_context(open_log(run, "facts", subject.name, own))
            log.add([x for x in _lines(pairs, said) if not log.has(*_key(x))])
            logs[subject.name] = log
    found = measure_facts({s.name: _rows(logs[s.name], pairs) for s in trained.subjects})
    done = [
        write_result(run, logs[s.name].path, _evaluation(s, found[s.name], settings))
        for s in trained.subjects
    ]
    build_notebook(book, say)
    return done


def _key(row: Mapping[str, Any]) -> tuple[str, str, int]:
    return row["item_id"], row["item_hash"], row["repeat"]


def _lines(
    pairs: Sequence[tuple[Question, _Pair]], answers: EvaluationLog
) -> Iterator[dict[str, Any]]:
    """Score the answers; `knowledge` tells those that were given the fact."""
    by_hash = {
        (each.id, each.hash): (question, given)
        for question, pair in pairs
        for each, given in zip(pair, (True, False), strict=True)
    }
    for row in answers.rows:
        if (key := (row["item_id"], row["item_hash"])) in by_hash:
            question, given = by_hash[key]
            yield {
                "item_id": row["item_id"],
                "item_hash": row["item_hash"],
                "repeat": row["repeat"],
                "value": None if row["left_out"] else float(says(row["text"], question.facts)),
                "knowledge": given,
                "tags": question.tags,
                "facts": question.facts,
                "text": row["text"],
            }


def _rows(
    log: EvaluationLog, pairs: Sequence[tuple[Question, _Pair]]
) -> tuple[list[ItemScore], list[ItemScore]]:
    """Give the scores with the fact and without; both are of the same items, so that they pair."""
    hashes = {question.id: question.hash for question, _ in pairs}
    given, memory = (
        [
            ItemScore(x["item_id"], hashes[x["item_id"]], name, x["value"], repeat=x["repeat"])
            for x in log.rows
            if x["knowledge"] is flag
        ]
        for name, flag in (("given", True), ("memory", False))
    )
    return given, memory


def _evaluation(subject: Subject, found: Shares, settings: Mapping[str, object]) -> Evaluation:
    return Evaluation(
        kind="facts",
        subject=subject.name,
        unit="share of answers that say the stated fact",
        score=found.given.score,
        interval=found.given.interval,
        n=found.given.n,
        missing=found.given.missing,
        examples_hash=found.given.examples_hash,
        settings={"weights": subject.weights, **settings},
        details=to_plain(asdict(found)),
        against="memory",
        comparison=found.gain,
    )
