"""Look at a data file as the model will see it, without a run and without keeping anything."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

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
from tunebook.data.detect import detect
from tunebook.data.shards import Part, Shards, row_id
from tunebook.data.sources import describe_files, locate
from tunebook.data.store import Store
from tunebook.errors import DataError
from tunebook.recipe.tree import Source

_NO_LIMIT = 2**62
_DROPS_SHOWN = 5
# Enough for four thousand characters of four tokens each, twice; decoded within two seconds.
_SAMPLE_TOKENS = 32_768
# A character has four bytes at most; what is still none after so many tokens, never will be one.
_MOST_OF_ONE = 8


@dataclass(frozen=True, slots=True)
class Lengths:
    """Lengths in tokens of the rows that are left, `max_seq_len` not yet applied."""

    n: int
    mean: float
    median: float
    p95: float
    max: int


@dataclass(frozen=True, slots=True)
class ShownToken:
    """A token's text and whether it carries loss; a character of many tokens is with its last."""

    text: str
    target: bool


@dataclass(frozen=True, slots=True)
class ShownData:
    """What a source is, where its rows went, and one row as the model will see it.

    `file_rows` counts rows of the files, of which one may be several examples; `rows_in` counts
    examples. `dropped_ids` has the first few ids per reason. `sample` is the begin of a row of
    `sample_tokens` tokens, or all of it.
    """

    source: str
    format: str
    reason: str
    looked_at: str
    stage: str
    template: str
    tokenizer: str
    columns: tuple[str, ...]
    file_rows: int
    rows_in: int
    dropped: Mapping[str, int]
    dropped_ids: Mapping[str, tuple[str, ...]]
    rows_out: int
    documents: int
    tokens: int
    target_tokens: int
    lengths: Lengths
    sample_id: str
    sample_tokens: int
    sample: tuple[ShownToken, ...]
    notes: tuple[str, ...]


def show_data(
    source: Source,
    codec: TextCodec,
    *,
    template: str = "auto",
    stage: str | None = None,
    whole: bool = True,
) -> ShownData:
    """Detect, tokenize and describe a source; stage by default cpt for text, else sft.

    Tokens are decoded one by one, which takes minutes for a row of megabytes: unless `whole`, only
    the first 32,768 of the row are. Raises DataError for what `prepare` raises it.
    """
    with tempfile.TemporaryDirectory(prefix="tunebook-show-") as folder:
        built, stage = build_uncut(source, codec, Path(folder), template=template, stage=stage)
        return _describe(source, built, codec, stage, _NO_LIMIT if whole else _SAMPLE_TOKENS)


def build_uncut(
    source: Source,
    codec: TextCodec,
    cache_dir: Path,
    *,
    template: str,
    stage: str | None,
    say: Say = lambda _text: None,
    workers: Workers | None = None,
    watch: Callable[[Progress], None] | None = None,
) -> tuple[Built, str]:
    """Tokenize a source at full length, for the stage it is for unless one is named."""
    detected = detect(locate(source.path), source)
    stage = stage or ("cpt" if detected.format == "text" else "sft")
    train_on = "all" if stage == "cpt" else "response"
    settings = TokenSettings(stage, template, train_on, _NO_LIMIT, "cut")
    return build_source(
        source, settings, codec, cache_dir, say, workers=workers, watch=watch
    ), stage


def _describe(
    source: Source, built: Built, codec: TextCodec, stage: str, most_tokens: int
) -> ShownData:
    facts, store, detected = built.store.facts, built.store, built.detected
    if not len(store):
        reasons = ", ".join(f"{n} {reason}" for reason, n in facts["dropped"].items())
        raise DataError(
            f"{source.path}: no row is left: {facts['rows_in']} in, dropped {reasons}; look at the "
            "file and its columns"
        )
    shards = Shards([Part(built.name, store, np.arange(len(store), dtype=np.int64))])
    first = shards.example(0)
    sample = mark_tokens(codec, first.ids[:most_tokens], first.target[:most_tokens])
    return ShownData(
        source=source.path,
        format=detected.format,
        reason=detected.reason,
        looked_at=detected.looked_at,
        stage=stage,
        template=built.renderer.name,
        tokenizer=codec.name,
        columns=detected.columns,
        file_rows=facts["file_rows"],
        rows_in=facts["rows_in"],
        dropped=dict(facts["dropped"]),
        dropped_ids=_first_drops(store, built.name),
        rows_out=facts["rows_out"],
        documents=len(np.unique(shards.documents)),
        tokens=int(shards.lengths.sum()),
        target_tokens=int(shards.target_counts.sum()),
        lengths=_lengths(shards),
        sample_id=first.id,
        sample_tokens=len(first.ids),
        sample=sample,
        notes=tuple(_notes(built, sample)),
    )


def _notes(built: Built, sample: Sequence[ShownToken]) -> Iterator[str]:
    """Say what is to be noticed: of the files, of the rows, and of the row that is shown."""
    if files := describe_files(built.located):
        yield files
    yield from row_notes(built.store.facts)
    if built.renderer.name == "none" and _touch(sample):
        yield (
            "prompt and answer touch, no character is between them; `template: qa` or `chat` (on "
            "the command line `--template qa`) puts something between"
        )


def _touch(sample: Sequence[ShownToken]) -> bool:
    """Tell whether the first answer of a row begins right behind a letter or sign."""
    prompt = "".join(token.text for token in itertools.takewhile(lambda t: not t.target, sample))
    answer = "".join(token.text for token in sample)[len(prompt) :]
    return bool(prompt and answer) and not (prompt[-1].isspace() or answer[0].isspace())


def _lengths(shards: Shards) -> Lengths:
    lengths = shards.lengths
    return Lengths(
        n=len(lengths),
        mean=float(lengths.mean()),
        median=float(np.median(lengths)),
        p95=float(np.percentile(lengths, 95)),
        max=int(lengths.max()),
    )


def _first_drops(store: Store, name: str) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for drop in store.drops():
        ids = found.get(drop.reason, ())
        if len(ids) < _DROPS_SHOWN:
            found[drop.reason] = (*ids, row_id(store, name, drop.file, drop.row, drop.sub))
    return found


def mark_tokens(
    codec: TextCodec, ids: tuple[int, ...], target: tuple[bool, ...]
) -> tuple[ShownToken, ...]:
    """Give each token the text it adds to the row, in steps that never cut a character."""
    shown = []
    start = read = 0  # text up to `read` is shown; decoding begins at `start` for context
    for stop, carries in enumerate(target, start=1):
        before, after = codec.decode(ids[start:read]), codec.decode(ids[start:stop])
        text = ""
        whole = not after.endswith("\ufffd") or stop - read > _MOST_OF_ONE
        if whole or stop == len(ids):
            text = after[len(before) :]
            start, read = read, stop
        shown.append(ShownToken(text, carries))
    return tuple(shown)
