"""What `tunebook grid` does: one run's answers to the same prompts under many ways of sampling."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tunebook.book.codec import to_plain
from tunebook.book.evaluations import EvaluationLog, Row, open_log, settings_hash, write_result
from tunebook.book.places import RunFolder, open_run
from tunebook.data.prepare import prepare
from tunebook.data.render import choose_renderer
from tunebook.errors import UsageError
from tunebook.evaluate.grid import (
    JUDGE,
    LOWER_IS_BETTER,
    Answered,
    Cell,
    measure_grid,
    recommended,
    reference_cell,
)
from tunebook.evaluate.likelihood import Spoken, score_sums, spoken_tokens
from tunebook.evaluate.questions import Question, held_out_questions, read_questions
from tunebook.models.generate import Sampling
from tunebook.records import Evaluation, Tokens
from tunebook.statistics.items import hash_keys
from tunebook.workflows.answers import answering
from tunebook.workflows.notebook import build_notebook
from tunebook.workflows.speakers import (
    Key,
    Speaker,
    Trained,
    ask_all,
    ask_each,
    open_run_to_ask,
)
from tunebook.workflows.weights import BASE

if TYPE_CHECKING:
    from tunebook.workflows.judging import Bench


def grid(
    name: str,
    book: Path,
    cells: Sequence[Sampling],
    *,
    path: str | None = None,
    weights: str = "final",
    prompts: int = 40,
    repeats: int = 4,
    by: str = "rep-4",
    seed: int = 0,
    bench: Bench | None = None,
    device: str | None = None,
    say: Callable[[str], None] = lambda _text: None,
) -> Evaluation:
    """Let weights answer the same prompts with the same seeds in every cell, and compare cells.

    `by` decides what is recommended, as in `recommended`. Greedy cells answer once. The answers
    are kept and used again. With a `bench` a judge scores every answer. Raises UsageError for a
    `by` that is no such number, JudgeError when the judge cannot be asked.
    """
    known = LOWER_IS_BETTER if bench is None else (*LOWER_IS_BETTER, JUDGE)
    if by not in known:
        more = "" if bench else "; with --judge FILE, judge"
        raise UsageError(f"--by {by}: cells are compared by {', '.join(known)}{more}")
    if len(cells) < 2:
        raise UsageError("a grid of one cell compares nothing; say more temperatures or penalties")
    run = open_run(book, name)
    trained = open_run_to_ask(run, [BASE, weights], device=device, say=say)
    base, subject = trained.subjects[0], trained.subjects[-1]
    recipe = trained.recipe
    prepared = prepare(recipe, trained.codec, run.cache_dir, say)
    renderer = choose_renderer(
        recipe.template, prepared.accounts[0].format, trained.codec, recipe.stage
    )
    questions = (
        read_questions(path)[:prompts]
        if path
        else held_out_questions(recipe, prepared, trained.codec, prompts)
    )
    times = {cell: repeats if cell.temperature else 1 for cell in cells}
    jobs = [
        answering(questions, cell, renderer, repeats=times[cell], seed=seed, say=say)
        for cell in cells
    ]
    logs = [found[weights] for found in ask_all(replace(trained, subjects=(subject,)), jobs)]
    said = [
        _Said(cell, question, row, spoken_tokens(question, _spoken(row), renderer))
        for cell, log in zip(cells, logs, strict=True)
        for question, row in _lines(log, questions, times[cell])
    ]
    settings = {
        "prompts": path or "held out",
        "questions": hash_keys((q.id, q.hash) for q in questions),
        "template": renderer.identity,
        "cells": [asdict(cell) for cell in cells],
        "repeats": repeats,
        "seed": seed,
        "answers_of": subject.weights,
    }
    log = _score(replace(trained, subjects=(base,)), said, settings, say)
    scores = {} if bench is None else _judge(run, bench, said, weights, settings, say)
    found = measure_grid(_answers(said, log, scores, cells), by)
    judged = {} if bench is None else bench.settings
    done = _evaluation(found, by, weights, {**settings, **judged, "by": by})
    done = write_result(run, log.path, done)
    build_notebook(book, say)
    return done


@dataclass(frozen=True, slots=True)
class _Said:
    """An answer in one cell, with its line in the log and its tokens behind the prompt's."""

    cell: Sampling
    question: Question
    row: Row
    tokens: Tokens

    @property
    def key(self) -> Key:
        """Tell what is scored: the same words in two cells are scored once."""
        said = hashlib.sha256(repr(self.tokens.ids).encode()).hexdigest()[:32]
        return self.question.id, said, 0


def _lines(
    log: EvaluationLog, questions: Sequence[Question], repeats: int
) -> Iterator[tuple[Question, Row]]:
    lines = {(row["item_id"], row["item_hash"], row["repeat"]): row for row in log.rows}
    for question in questions:
        for repeat in range(repeats):
            yield question, lines[question.id, question.hash, repeat]


def _spoken(row: Row) -> Spoken:
    return Spoken(row["text"], tuple(row["ids"]), row["ended"], row["left_out"])


def _score(
    of_base: Trained,
    said: Sequence[_Said],
    settings: Mapping[str, object],
    say: Callable[[str], None],
) -> EvaluationLog:
    """Score what was said under the base; a line has `nats`."""
    tokens = {one.key: one.tokens for one in said if one.row["ids"]}

    def ask(speaker: Speaker, log: EvaluationLog, keys: list[Key]) -> None:
        say(f"{speaker.subject.label}: {len(keys)} answers to score")
        waiting = iter(keys)
        for sums in score_sums(speaker.loaded, speaker.scorer, [tokens[key] for key in keys]):
            names = ("item_id", "item_hash", "repeat")
            log.add([{**dict(zip(names, next(waiting), strict=True)), "nats": n} for n in sums])

    return ask_each(of_base, "grid", settings, list(tokens), ask)[BASE]


def _judge(
    run: RunFolder,
    bench: Bench,
    said: Sequence[_Said],
    weights: str,
    settings: Mapping[str, object],
    say: Callable[[str], None],
) -> dict[tuple[Sampling, Key], float | None]:
    """Let a judge score every answer; the same words in two cells are scored once."""
    # The judge's client takes a second to import, and is an extra.
    from tunebook.evaluate.judge.asking import Task
    from tunebook.workflows.judge import conversation
    from tunebook.workflows.judge_anchor import era_of
    from tunebook.workflows.judging import score_tasks

    era = era_of(run, bench)
    tasks = {
        (one.cell, _asked(one)): Task(
            subject=weights,
            item_id=f"{one.question.id} {settings_hash(asdict(one.cell))}",
            item_hash=one.question.hash,
            question=conversation(one.question.messages),
            reference=one.question.reference,
            answer=str(one.row["text"]),
            repeat=int(one.row["repeat"]),
            cluster=one.question.document,
        )
        for one in said
    }
    with open_log(run, "judged-grid", weights, {**settings, **bench.settings, "era": era}) as log:
        score_tasks(run, bench, list(tasks.values()), {weights: log}, era=era, say=say)
        lines = {key: log.get(t.item_id, t.item_hash, t.repeat) for key, t in tasks.items()}
    return {key: line["value"] if line else None for key, line in lines.items()}


def _asked(one: _Said) -> Key:
    return one.question.id, one.question.hash, int(one.row["repeat"])


def _answers(
    said: Sequence[_Said],
    log: EvaluationLog,
    scores: Mapping[tuple[Sampling, Key], float | None],
    cells: Sequence[Sampling],
) -> dict[Sampling, list[Answered]]:
    nats = {(row["item_id"], row["item_hash"], row["repeat"]): row["nats"] for row in log.rows}
    found: dict[Sampling, list[Answered]] = {cell: [] for cell in cells}
    for one in said:
        ids, row = tuple(one.row["ids"]), one.row
        prompt = one.tokens.ids[: len(one.tokens.ids) - len(ids)]
        known = nats.get(one.key, 0.0)
        judged = scores.get((one.cell, _asked(one)))
        said_so = (one.question, row["repeat"], row["text"], prompt, ids, row["ended"], known)
        found[one.cell].append(Answered(*said_so, judged))
    return found


def _evaluation(
    cells: Sequence[Cell], by: str, weights: str, settings: Mapping[str, object]
) -> Evaluation:
    reference = reference_cell([cell.sampling for cell in cells])
    number = next(cell for cell in cells if cell.sampling == reference).numbers[by]
    best = recommended(cells, by)
    details = {
        "cells": cells,
        "reference": reference,
        "recommended": best.sampling if best else None,
    }
    return Evaluation(
        kind="grid",
        subject=weights,
        unit=f"{by} of the reference cell",
        score=number.score,
        interval=number.interval,
        n=number.n,
        missing=number.missing,
        examples_hash=number.examples_hash,
        settings=settings,
        details=to_plain(details),
    )
