"""What `tunebook probe` does: fixed prompts asked of the base and the tuned, and what changed."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from tunebook.book.atomic import storage_errors
from tunebook.book.codec import to_plain
from tunebook.book.evaluations import EvaluationLog, Row, write_result
from tunebook.book.places import open_run
from tunebook.data.prepare import prepare
from tunebook.data.render import Renderer, choose_renderer
from tunebook.errors import DataError, UsageError
from tunebook.evaluate.likelihood import (
    Kept,
    Spoken,
    divergence,
    log_probs,
    plain_tokens,
    reference_tokens,
    score_sums,
    spoken_tokens,
)
from tunebook.evaluate.probes import Given, Measure, Output, Probed, measure
from tunebook.evaluate.questions import Question
from tunebook.evaluate.shown import refuse_unasked, shown_answers
from tunebook.models.generate import Sampling
from tunebook.records import Evaluation, Tokens
from tunebook.statistics.items import hash_keys
from tunebook.workflows.answers import answer
from tunebook.workflows.notebook import build_notebook
from tunebook.workflows.probe_sets import ProbeSets, collect_probes
from tunebook.workflows.speakers import Job, Key, Speaker, Trained, ask_all, open_run_to_ask
from tunebook.workflows.weights import BASE

_TEXTS_BEFORE_WRITING = 32


@dataclass(frozen=True, slots=True)
class _Scored:
    """A text to be scored under all weights.

    `whole` marks those of which the whole distributions are looked at: base's first answers on
    `out` (their divergence) and the general text (its unigram).
    """

    question: Question
    tokens: Tokens
    kind: str
    author: str = ""
    repeat: int = 0
    text: str = ""
    whole: bool = False

    @property
    def key(self) -> Key:
        said = hashlib.sha256(repr((self.tokens.ids, self.tokens.target)).encode()).hexdigest()
        name = f"{self.kind}:{self.author}:{self.question.id}"
        return name, said[:32], self.repeat

    @property
    def scored_ids(self) -> tuple[int, ...]:
        pairs = zip(self.tokens.ids, self.tokens.target, strict=True)
        return tuple(i for i, flag in pairs if flag)


def probe(
    name: str,
    book: Path,
    *,
    path: str | None = None,
    weights: Sequence[str] = (BASE, "final"),
    sampling: Sampling,
    repeats: int = 4,
    prompts: int = 64,
    seed: int = 0,
    show: Sequence[str] = (),
    device: str | None = None,
    say: Callable[[str], None] = lambda _text: None,
) -> list[Evaluation]:
    """Ask base and tuned weights the same prompts with the same seeds, and measure what changed.

    One evaluation for each of the weights but the base. What was asked before is used again. The
    answers to prompts that say one of `show` stand in the details. Raises BookError or UsageError
    for weights that are not there or a prompt that is not asked, DataError for the prompts.
    """
    weights = [BASE, *(one for one in weights if one != BASE)]
    if len(weights) < 2:
        raise UsageError("a probe holds weights against the base; say which, as `--weights final`")
    run = open_run(book, name)
    trained = open_run_to_ask(run, weights, device=device, say=say)
    recipe = trained.recipe
    prepared = prepare(recipe, trained.codec, run.cache_dir, say)
    data_format = prepared.accounts[0].format
    renderer = choose_renderer(recipe.template, data_format, trained.codec, recipe.stage)
    sets = collect_probes(recipe, prepared, renderer, path, prompts)
    refuse_unasked(show, [question.text for question in sets.questions])
    answers = answer(
        trained,
        sets.questions,
        sampling,
        template=recipe.template,
        data_format=data_format,
        repeats=repeats,
        seed=seed,
        say=say,
    )
    texts = _texts(trained, sets, renderer, answers, repeats)
    settings = {
        "prompts": path or "ready-made",
        "questions": hash_keys((q.id, q.hash) for q in (*sets.questions, *sets.general)),
        "template": renderer.identity,
        "sampling": asdict(sampling),
        "repeats": repeats,
        "seed": seed,
        "base": trained.subjects[0].weights,
    }
    logs = _score(trained, texts, settings, say)
    rows = {name: log.rows for name, log in logs.items()}
    probed = _collect(sets, texts, rows, sampling.max_new_tokens)
    found = [
        write_result(
            run, logs[subject.name].path, _evaluation(probed, subject.name, settings, show)
        )
        for subject in trained.subjects
        if subject.name != BASE
    ]
    build_notebook(book, say)
    return found


def _texts(
    trained: Trained,
    sets: ProbeSets,
    renderer: Renderer,
    answers: Mapping[str, EvaluationLog],
    repeats: int,
) -> list[_Scored]:
    """Lay out everything that is scored: references, general text, and who wrote what."""
    limit = trained.recipe.max_seq_len
    found = [
        _Scored(q, reference_tokens(q, renderer, limit), "reference")
        for q in sets.questions
        if q.reference
    ]
    found += [
        _Scored(q, plain_tokens(q, renderer.codec, limit), "general", whole=True)
        for q in sets.general
    ]
    for author, log in answers.items():
        lines = {(row["item_id"], row["item_hash"], row["repeat"]): row for row in log.rows}
        for question in sets.questions:
            for repeat in range(repeats):
                line = lines[question.id, question.hash, repeat]
                spoken = Spoken(line["text"], tuple(line["ids"]), line["ended"], line["left_out"])
                whole = (author, question.group, repeat) == (BASE, "out", 0) and bool(spoken.ids)
                tokens = spoken_tokens(question, spoken, renderer)
                found.append(
                    _Scored(question, tokens, "answer", author, repeat, spoken.text, whole)
                )
    cut = next((one for one in found if one.kind == "reference" and not one.scored_ids), None)
    if cut is not None:
        raise DataError(
            f"{cut.question.id}: prompt and reference are longer than max_seq_len {limit}, so "
            "nothing of the reference is left to score; shorten the prompt"
        )
    return found


def _score(
    trained: Trained,
    texts: Sequence[_Scored],
    settings: Mapping[str, object],
    say: Callable[[str], None],
) -> dict[str, EvaluationLog]:
    """Score every text under all weights; a line has `nats`, and what `whole` texts add."""
    by_key = {text.key: text for text in texts}
    cache = trained.run.cache_dir
    with storage_errors(f"write {cache}", cache), tempfile.TemporaryFile(dir=cache) as file:
        kept = Kept(file)

        def ask(speaker: Speaker, log: EvaluationLog, keys: list[Key]) -> None:
            say(f"{speaker.subject.label}: {len(keys)} texts to score")
            _score_whole(speaker, log, keys, by_key, kept)
            _score_sums(speaker, log, [key for key in keys if not by_key[key].whole], by_key)

        job = Job("probe", settings, list(by_key), ask, base_first=True)
        return ask_all(trained, [job])[0]


def _score_whole(
    speaker: Speaker,
    log: EvaluationLog,
    keys: Sequence[Key],
    by_key: Mapping[Key, _Scored],
    kept: Kept,
) -> None:
    is_base = speaker.subject.name == BASE
    lines, mean_V, places = list[dict[str, Any]](), torch.zeros(1), 0
    # The base is asked for what others lack too: they are held against its distributions.
    for key, text in by_key.items():
        if not text.whole or not (is_base or key in keys):
            continue
        found_MV, came_M = log_probs(speaker.loaded, text.tokens)
        line = _line(key, -float(found_MV.gather(1, came_M[:, None]).sum(dtype=torch.float64)))
        if text.kind == "answer" and is_base:
            kept.put(key, found_MV)
        elif text.kind == "answer":
            line["divergence"] = divergence(kept.get(key), found_MV.cpu())
        elif is_base:
            mean_V = mean_V + found_MV.exp().sum(0, dtype=torch.float64).cpu()
            places += len(came_M)
        lines.append(line)
    if is_base and places:
        mean_V = (mean_V / places).log()
        for line in lines:
            text = by_key[line["item_id"], line["item_hash"], line["repeat"]]
            if text.kind == "general":
                line["unigram"] = -float(mean_V[list(text.scored_ids)].sum())
    wanted = set(keys)
    log.add([x for x in lines if (x["item_id"], x["item_hash"], x["repeat"]) in wanted])


def _score_sums(
    speaker: Speaker, log: EvaluationLog, keys: Sequence[Key], by_key: Mapping[Key, _Scored]
) -> None:
    # Empty answers have nothing to score.
    some = [key for key in keys if by_key[key].scored_ids]
    log.add([_line(key, 0.0) for key in keys if not by_key[key].scored_ids])
    lines = list[Row]()
    waiting = iter(some)
    for sums in score_sums(speaker.loaded, speaker.scorer, [by_key[key].tokens for key in some]):
        lines += [_line(next(waiting), nats) for nats in sums]
        if len(lines) >= _TEXTS_BEFORE_WRITING:
            log.add(lines)
            lines = []
    log.add(lines)


def _line(key: Key, nats: float) -> dict[str, Any]:
    item_id, item_hash, repeat = key
    return {"item_id": item_id, "item_hash": item_hash, "repeat": repeat, "nats": nats}


def _collect(
    sets: ProbeSets,
    texts: Sequence[_Scored],
    rows: Mapping[str, Sequence[Row]],
    max_new_tokens: int,
) -> Probed:
    """Put what the logs hold back to the texts."""
    lines = {
        who: {(row["item_id"], row["item_hash"], row["repeat"]): row for row in found}
        for who, found in rows.items()
    }
    nats = {text.key: {who: lines[who][text.key]["nats"] for who in rows} for text in texts}
    given: dict[str, list[Given]] = {"reference": [], "general": []}
    outputs: dict[str, list[Output]] = {who: [] for who in rows}
    for one in texts:
        if one.kind == "answer":
            output = Output(
                one.question,
                one.repeat,
                one.text,
                one.scored_ids,
                one.tokens.scored_bytes,
                nats[one.key],
            )
            outputs[one.author].append(output)
        else:
            scored = one.scored_ids, one.tokens.scored_bytes, nats[one.key]
            given[one.kind].append(Given(one.question, *scored))
    whole = [one for one in texts if one.whole]
    return Probed(
        base=BASE,
        outputs=outputs,
        references=given["reference"],
        general=given["general"],
        unigram={
            one.question.id: lines[BASE][one.key]["unigram"]
            for one in whole
            if one.kind == "general"
        },
        divergences={
            who: [
                (one.question, lines[who][one.key]["divergence"], len(one.scored_ids))
                for one in whole
                if one.kind == "answer"
            ]
            for who in rows
            if who != BASE
        },
        training=sets.training,
        max_new_tokens=max_new_tokens,
    )


def _evaluation(
    probed: Probed, tuned: str, settings: Mapping[str, object], show: Sequence[str]
) -> Evaluation:
    details = measure(probed, tuned) | {"shown": shown_answers(probed, tuned, show)}
    first: Measure | None = next(
        (m for m in details["measures"] if m.group == "in" and m.name.endswith("references")), None
    )
    difference = None if first is None else first.difference
    return Evaluation(
        kind="probe",
        subject=tuned,
        unit="nats per byte over the base, in-distribution",
        score=None if difference is None else difference.difference,
        interval=None if difference is None else difference.interval,
        n=0 if difference is None else difference.n,
        missing=0 if difference is None else difference.missing_a,
        examples_hash="" if difference is None else difference.examples_hash,
        settings=settings,
        details=to_plain(details),
        against=BASE if difference else None,
        comparison=difference,
    )
