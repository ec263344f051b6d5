"""From a recipe's sources to what a run trains on, with an account of every row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tunebook.accounts import PartsAccount, SourceAccount
from tunebook.data.build import (
    Built,
    Progress,
    Say,
    TokenSettings,
    Workers,
    build_source,
    row_notes,
)
from tunebook.data.codec import TextCodec
from tunebook.data.order import TrainSet
from tunebook.data.prompts import SamplePrompt, held_out_prompts, own_prompt
from tunebook.data.shards import Part, Shards
from tunebook.data.sides import Sides, all_held_out, take_sides
from tunebook.data.split import count_documents, count_rows
from tunebook.errors import DataError
from tunebook.recipe.tree import Recipe, Source
from tunebook.units import format_count

__all__ = ["Prepared", "SamplePrompt", "prepare", "render_prompt", "sample_prompts"]

NO_VALIDATION = "no validation: overfitting cannot be judged"


@dataclass(frozen=True, slots=True)
class Prepared:
    """The data of a run, ready to be read.

    `accounts` has one entry per source in the order of the recipe, then one for a validation file
    of its own; `train.shares` tells what an epoch takes of each. `validation_hash` covers tokens
    and targets of all held-out examples. `longest` is the longest row of either, in tokens. `parts`
    is None when the run file says nothing of parts. `built` has the recipe's sources as tokens.
    `seen` is what all parts together train on: what another part has seen is not held out either.
    """

    train: TrainSet
    validation: Shards | None
    accounts: tuple[SourceAccount, ...]
    template: str
    notes: tuple[str, ...]
    validation_hash: str | None
    longest: int
    codec: TextCodec
    stage: str
    parts: PartsAccount | None = None
    built: tuple[Built, ...] = ()
    seen: tuple[Part, ...] = ()


def prepare(
    recipe: Recipe,
    codec: TextCodec,
    cache_dir: Path,
    say: Callable[[str], None],
    *,
    workers: Workers | None = None,
    watch: Callable[[Progress], None] | None = None,
) -> Prepared:
    """Read, filter, tokenize and split every source of a recipe.

    Tokens made before are used again; `watch` is told how far those made now are. Raises DataError
    for data that cannot be used, RunFileError for filters that do not exist.
    """
    settings = token_settings(recipe)
    built = with_own_names(
        [
            build_source(source, settings, codec, cache_dir, say, workers=workers, watch=watch)
            for source in recipe.data
        ]
    )
    sides, parts = take_sides(recipe, [one.store for one in built])
    accounts = [_account(*found) for found in zip(built, recipe.data, sides, strict=True)]
    train_parts = [Part(b.name, b.store, s.train) for b, s in zip(built, sides, strict=True)]
    held_parts = [Part(b.name, b.store, s.held_out) for b, s in zip(built, sides, strict=True)]
    if recipe.validation.path is not None:
        part, account = _own_validation(recipe, settings, codec, cache_dir, say, workers, watch)
        held_parts, accounts = [part], [*accounts, account]
    _require_rows(built, sides, accounts)
    held_parts = [part for part in held_parts if len(part.numbers)]
    validation = Shards(held_parts) if held_parts else None
    train = TrainSet(
        [Shards([part]) for part in train_parts],
        [source.weight for source in recipe.data],
        seed=recipe.seed,
        packing=bool(recipe.packing),
        max_seq_len=recipe.max_seq_len,
        scales=[source.learning_rate_scale for source in recipe.data],
    )
    notes = _notes(accounts, validation)
    if parts is not None and parts.by == "piece":
        notes.append(
            f"too few documents ({format_count(parts.whole.documents)}) for {recipe.parts} parts, "
            "so their pieces are dealt out one by one"
        )
    for note in notes:
        say(note)
    templates = dict.fromkeys(one.renderer.name for one in built)
    return Prepared(
        train=train,
        validation=validation,
        accounts=tuple(accounts),
        template=", ".join(templates),
        notes=tuple(notes),
        validation_hash=validation.hash() if validation is not None else None,
        longest=_longest(train, validation),
        codec=codec,
        stage=recipe.stage,
        parts=parts,
        built=tuple(built),
        seen=tuple(Part(b.name, b.store, s.sampled) for b, s in zip(built, sides, strict=True)),
    )


def sample_prompts(prepared: Prepared, n: int) -> list[SamplePrompt]:
    """Take prompts from the first held-out examples, or from training when nothing is held out."""
    shards = prepared.validation or prepared.train.sources[0]
    return held_out_prompts(shards, prepared.codec, text=prepared.stage == "cpt", n=n)


def render_prompt(recipe: Recipe, codec: TextCodec, text: str, prepared: Prepared) -> list[int]:
    """Tokenize an author's own prompt through the template of the run's first source."""
    return own_prompt(recipe, codec, text, [account.format for account in prepared.accounts])


def token_settings(recipe: Recipe) -> TokenSettings:
    """Give what decides the tokens of a recipe's sources."""
    train_on = recipe.train_on or ("all" if recipe.stage == "cpt" else "response")
    if recipe.stage == "cpt" and train_on == "response":
        raise DataError("train_on: response needs responses, and stage cpt has none; say all")
    return TokenSettings(
        stage=recipe.stage,
        template=recipe.template,
        train_on=train_on,
        max_seq_len=recipe.max_seq_len,
        overlong=recipe.overlong or ("split" if recipe.stage == "cpt" else "drop"),
    )


def with_own_names(built: Sequence[Built], taken: Sequence[str] = ()) -> list[Built]:
    """Give sources of the same name a number, so that every example id is its own."""
    used = set(taken)
    named = []
    for one in built:
        name, number = one.name, 1
        while name in used:
            number += 1
            name = f"{one.name}-{number}"
        used.add(name)
        named.append(replace(one, name=name))
    return named


def validation_source(recipe: Recipe) -> Source:
    """Give the source that `validation.path` states."""
    wanted = recipe.validation
    return Source(
        path=wanted.path or "",
        format=wanted.format,
        columns=wanted.columns,
        roles=wanted.roles,
        document=wanted.document,
        chess=recipe.data[0].chess,
    )


def _own_validation(
    recipe: Recipe,
    settings: TokenSettings,
    codec: TextCodec,
    cache_dir: Path,
    say: Say,
    workers: Workers | None,
    watch: Callable[[Progress], None] | None,
) -> tuple[Part, SourceAccount]:
    source = validation_source(recipe)
    built = build_source(source, settings, codec, cache_dir, say, workers=workers, watch=watch)
    built = replace(built, name=f"validation:{built.name}")
    if not len(built.store):
        raise DataError(f"{source.path}: no row is left to validate on: {_drops_of(built)}")
    sides = all_held_out(recipe, built.store)
    return Part(built.name, built.store, sides.held_out), _account(built, source, sides)


def _account(built: Built, source: Source, sides: Sides) -> SourceAccount:
    facts, store, used = built.store.facts, built.store, sides.used
    dropped = {**facts["dropped"], **sides.aside}
    n_rows, train_rows = count_rows(store, used), count_rows(store, sides.train)
    cut = store.rows["cut"][used]
    return SourceAccount(
        name=built.name,
        path=source.path,
        format=built.detected.format,
        rows_in=facts["rows_in"],
        dropped=dropped,
        rows_out=n_rows,
        cut_rows=int((cut > 0).sum()),
        cut_tokens=int(cut.sum(dtype=np.int64)),
        tokens=int(store.lengths[used].sum()),
        target_tokens=int(store.target_counts()[used].sum()),
        documents=count_documents(store, used),
        train_rows=train_rows,
        # A row whose tail is held out is a training row; the note of the split tells of the tail.
        validation_rows=n_rows - train_rows,
        content_hash=built.content_hash,
        cache_key=built.store.folder.name,
        notes=tuple(f"{built.name}: {note}" for note in (*row_notes(facts), *sides.notes)),
    )


def _require_rows(
    built: Sequence[Built], sides: Sequence[Sides], accounts: Sequence[SourceAccount]
) -> None:
    for one, side, account in zip(built, sides, accounts, strict=False):
        if not len(side.sampled):
            raise DataError(
                f"{account.path}: no row is left to train on: {_drops_of(one)}; loosen the "
                "filters, raise max_seq_len or look at it with `tunebook data show`"
            )


def _drops_of(built: Built) -> str:
    facts = built.store.facts
    reasons = ", ".join(f"{n} {reason}" for reason, n in facts["dropped"].items())
    return f"{facts['rows_in']} in, dropped {reasons or 'none'}, {facts['rows_out']} out"


def _notes(accounts: Sequence[SourceAccount], validation: Shards | None) -> list[str]:
    notes = [note for account in accounts for note in account.notes]
    return notes if validation is not None else [*notes, NO_VALIDATION]


def _longest(train: TrainSet, validation: Shards | None) -> int:
    sets = [*train.sources, *([validation] if validation is not None else [])]
    return max(int(shards.lengths.max()) for shards in sets if len(shards))
