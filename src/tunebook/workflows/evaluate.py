"""What `tunebook evaluate` does: the loss of a run's weights and of its base, on the same rows."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from tunebook.book.data_account import read_data
from tunebook.book.evaluations import EvaluationLog, scores_of, write_result
from tunebook.book.places import open_run
from tunebook.data.batches import validation_batches
from tunebook.data.build import build_source
from tunebook.data.detect import detect
from tunebook.data.examples import Reader
from tunebook.data.formats import stages_of
from tunebook.data.prepare import prepare, token_settings
from tunebook.data.shards import Part, Shards
from tunebook.data.sources import locate
from tunebook.errors import DataError, ModelError
from tunebook.evaluate.loss import (
    MARGIN_NATS,
    bits_per_byte,
    by_tag,
    perplexities,
    pick_examples,
)
from tunebook.evaluate.questions import held_out_questions, of_example
from tunebook.models.memory import unless_too_large
from tunebook.models.tokenizer import Codec
from tunebook.recipe.tree import Recipe, Source
from tunebook.records import Evaluation, Finding, Tokens
from tunebook.statistics.compare import compare_many
from tunebook.statistics.estimate import ratio_estimate
from tunebook.statistics.items import hash_keys
from tunebook.step.score import ScoredExample, score_examples
from tunebook.workflows.notebook import build_notebook
from tunebook.workflows.prefixes import ASKED, asked_in, warn_of_prefixes
from tunebook.workflows.speakers import Key, Speaker, Trained, ask_each, open_run_to_ask
from tunebook.workflows.weights import BASE

_TOKENS_PER_BATCH = {"cpu": 2048, "mps": 4096, "cuda": 16384}
_SHOWN_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class _Examples:
    """What is scored; `path` is None for the run's own held-out examples."""

    shards: Shards
    path: str | None
    stage: str
    template: str
    hash: str
    findings: tuple[Finding, ...] = ()


def evaluate(
    name: str,
    book: Path,
    *,
    path: str | None = None,
    template: str | None = None,
    weights: Sequence[str] = (BASE, "final"),
    device: str | None = None,
    say: Callable[[str], None] = lambda _text: None,
) -> list[Evaluation]:
    """Score what a run held out, or a data file, with each of the weights.

    Those after the first are compared with the first. Scores made before are used again. `template`
    takes the place of the run's own.
    Raises BookError or UsageError for weights that are not there, DataError for the data.
    """
    run = open_run(book, name)
    trained = open_run_to_ask(run, weights, device=device, say=say)
    examples = _choose_examples(trained, path, template, say)
    numbers = {_key(examples.shards, i): i for i in range(len(examples.shards))}
    settings = {
        "data": examples.path or "held out",
        # With their ids: a file whose rows were put in another order is scored anew.
        "examples": hash_keys(key[:2] for key in numbers),
        "template": examples.template,
        "window": trained.recipe.max_seq_len,
        # Windows of a long document do not overlap: each token is scored once.
        "stride": trained.recipe.max_seq_len,
        "tokenizer": trained.codec.fingerprint,
    }

    def ask(speaker: Speaker, log: EvaluationLog, keys: list[Key]) -> None:
        say(f"{speaker.subject.label}: {len(keys)} examples to score")
        _score(speaker, examples.shards, [numbers[key] for key in keys], log)

    logs = ask_each(trained, "loss", settings, list(numbers), ask)
    evaluations: list[Evaluation] = []
    scored = {s.name: scores_of(logs[s.name].rows, s.label) for s in trained.subjects}
    bad = {
        name: sum(not math.isfinite(row.value or 0.0) for row in rows)
        for name, rows in scored.items()
    }
    first, *others = scored
    pairs = [(one, first) for one in others if not bad[one] and not bad[first]]
    compared = compare_many(scored, pairs, margin=MARGIN_NATS)
    for subject in trained.subjects:
        log, rows = logs[subject.name], scored[subject.name]
        found = ratio_estimate(rows)
        details = _details(rows, log.rows) | {"findings": examples.findings}
        if n := bad[subject.name]:
            details["not_compared"] = f"the loss of {n:,} of {len(rows):,} rows is not finite"
        comparison = compared.get((subject.name, first))
        done = Evaluation(
            kind="loss",
            subject=subject.name,
            unit="nats per target token",
            score=found.score,
            interval=found.interval,
            n=found.n,
            missing=found.missing,
            examples_hash=examples.hash,
            settings={"weights": subject.weights, **settings},
            details=details,
            against=first if comparison else None,
            comparison=comparison,
        )
        evaluations.append(write_result(run, log.path, done))
    build_notebook(book, say)
    return evaluations


def _choose_examples(
    trained: Trained, path: str | None, template: str | None, say: Callable[[str], None]
) -> _Examples:
    recipe = asked_in(trained.recipe, template)
    cache = trained.run.cache_dir
    if path is None:
        prepared = prepare(recipe, trained.codec, cache, say)
        held_out = prepared.validation
        if held_out is None or prepared.validation_hash is None:
            raise DataError(
                f"run {trained.run.name} held nothing out, so there is nothing to score; say "
                "--data with a file that it was not trained on"
            )
        trained_on = read_data(trained.run)
        findings: list[Finding] = []
        if prepared.template != trained_on.get("template"):
            questions = held_out_questions(recipe, prepared, trained.codec, ASKED)
            renderer = prepared.built[0].renderer
            findings = warn_of_prefixes(trained, questions, renderer, say)
        elif prepared.validation_hash != trained_on.get("validation_hash"):
            say(
                "the held-out examples are not those the run was validated on: its data changed "
                "since, so these scores do not compare with its val_loss"
            )
        return _Examples(
            held_out,
            None,
            recipe.stage,
            prepared.template,
            prepared.validation_hash,
            tuple(findings),
        )
    source = Source(path=path)
    stage = _stage(path, source, recipe)
    own: dict[str, object] = {"stage": stage, "train_on": None, "overlong": None}
    if stage != recipe.stage:
        own["template"] = "auto"
    settings = token_settings(recipe.model_copy(update=own))
    built = build_source(source, settings, trained.codec, cache, say)
    if not len(built.store):
        raise DataError(f"{path}: no row is left to score; look at it with `tunebook data show`")
    if dropped := built.store.facts["dropped"]:
        why = ", ".join(f"{n:,} {reason}" for reason, n in dropped.items())
        say(f"{path}: {built.store.facts['rows_in']:,} rows in, dropped {why}")
    everything = np.arange(len(built.store), dtype=np.int64)
    shards = Shards([Part(built.name, built.store, everything)])
    findings = []
    if stage == "sft":
        reader = Reader(built.located, built.detected, source, stage)
        asked = [of_example(read.example) for read in islice(reader.examples(), ASKED)]
        findings = warn_of_prefixes(trained, asked, built.renderer, say)
    return _Examples(
        shards, path, stage, built.renderer.name, shards.hash(), findings=tuple(findings)
    )


def _stage(path: str, source: Source, recipe: Recipe) -> str:
    """Read a file as the run does where that can be, else as text."""
    found = detect(locate(path), source).format
    stages = stages_of(found)
    return recipe.stage if stages[recipe.stage] else "cpt" if stages["cpt"] else "sft"


def _key(shards: Shards, number: int) -> Key:
    tokens = shards.example(number)
    said = np.array([tokens.ids, tokens.target], dtype="<i8").tobytes()
    return tokens.id, hashlib.sha256(said).hexdigest()[:32], 0


def _score(speaker: Speaker, shards: Shards, numbers: Sequence[int], log: EvaluationLog) -> None:
    """Score examples of some numbers, and write their lines down batch by batch."""
    room = _TOKENS_PER_BATCH.get(speaker.loaded.device.type, 2048)
    waiting = sorted(numbers)
    while waiting:
        chosen = shards.only(waiting)
        batch = next(validation_batches(chosen, room))
        job = partial(score_examples, speaker.loaded, speaker.scorer, [batch])
        scored = unless_too_large(job)
        if scored is not None:
            log.add([_line(speaker, chosen, place, one) for place, one in enumerate(scored)])
            waiting = waiting[len(scored) :]
        elif len(batch.lengths) > 1:
            room = max(len(batch.ids) // 2, 1)
        else:
            raise ModelError(
                f"memory does not suffice to score {batch.example_ids[0]} of {len(batch.ids):,} "
                "tokens; use a larger device"
            )


def _line(speaker: Speaker, shards: Shards, place: int, scored: ScoredExample) -> dict[str, Any]:
    tokens = shards.example(place)
    item_id, item_hash, repeat = _key(shards, place)
    assert item_id == scored.id
    return {
        "item_id": item_id,
        "item_hash": item_hash,
        "repeat": repeat,
        "value": scored.loss_sum,
        "n_units": scored.target_tokens,
        "cluster": tokens.document,
        "tags": [scored.source],
        "bytes": tokens.scored_bytes,
        "scored_hash": _text_hash(speaker.codec, tokens),
        "text": speaker.codec.decode(tokens.ids)[-_SHOWN_CHARACTERS:],
    }


def _text_hash(codec: Codec, tokens: Tokens) -> str:
    """Hash the text that is scored, which other tokenizers and templates have in common."""
    said = [
        token
        for token, scored in zip(tokens.ids, tokens.target, strict=True)
        if scored and token not in codec.special_ids
    ]
    return hashlib.sha256(codec.decode(said).strip().encode()).hexdigest()[:32]


def _details(rows: Sequence[Any], lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    found = ratio_estimate(rows)
    in_bytes = bits_per_byte(rows, {line["item_id"]: line["bytes"] for line in lines})
    return {
        "perplexity": perplexities(found),
        "bits_per_byte": None if in_bytes is None else asdict(in_bytes),
        "documents": found.clusters,
        "target_tokens": int(sum(row.n_units for row in rows)),
        "scored_bytes": sum(line["bytes"] for line in lines),
        "per_source": {tag: asdict(each) for tag, each in by_tag(rows).items()},
        "examples": pick_examples(lines),
    }
