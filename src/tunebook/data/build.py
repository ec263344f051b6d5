"""Read, filter, render and tokenize one source into a store, or open the one made before."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from tunebook.data.codec import TextCodec
from tunebook.data.detect import Detected, detect
from tunebook.data.examples import Read, Reader, check_stage
from tunebook.data.filters import NamedFilter, build_filters, chain_of
from tunebook.data.filters.chain import NEVER
from tunebook.data.render import Renderer, choose_renderer
from tunebook.data.sources import Located, hash_files, locate
from tunebook.data.store import Store, StoreWriter, open_store
from tunebook.data.tokenize import Rendered, Row, tokenize
from tunebook.errors import DataError
from tunebook.recipe.tree import Source
from tunebook.records import Drop, Example
from tunebook.units import format_count

_CHUNK_ROWS = 1000
# A chunk also ends here, so that a few huge documents are never all in memory.
_CHUNK_CHARACTERS = 8 * 1024 * 1024

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class TokenSettings:
    """What decides the tokens of every source of a run."""

    stage: str
    template: str
    train_on: str
    max_seq_len: int
    overlong: str


@dataclass(frozen=True, slots=True)
class Built:
    """A source as tokens, with what was found out about it."""

    name: str
    located: Located
    detected: Detected
    renderer: Renderer
    store: Store
    content_hash: str


@dataclass(slots=True)
class _Tally:
    """Counts of one source while it is tokenized."""

    rows_in: int = 0
    rows_out: int = 0
    cut_rows: int = 0
    cut_tokens: int = 0
    shared_rows: int = 0
    special_rows: int = 0
    unended_rows: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    by_file: dict[int, bool] = field(default_factory=dict)


def build_source(
    source: Source, settings: TokenSettings, codec: TextCodec, cache_dir: Path, say: Say
) -> Built:
    """Tokenize a source, unless a store with the same content and settings is there.

    Raises DataError for anything wrong with its files, RunFileError for its filters.
    """
    located = locate(source.path)
    filters = build_filters(source.filters)
    detected = detect(located, source)
    check_stage(detected.format, settings.stage, source.path)
    renderer = choose_renderer(settings.template, detected.format, codec, settings.stage)
    say(f"{source.path}: format {detected.format} ({detected.reason}); template {renderer.name}")
    content_hash = hash_files(located)
    key = _key(content_hash, source, detected, settings, renderer, filters)
    store, why_not = open_store(cache_dir, key)
    if why_not is not None:
        say(f"{source.path}: the cached tokens are set aside, {why_not}; tokenizing again")
    if store is None:
        store = _tokenize_source(
            source, located, detected, settings, renderer, filters, cache_dir, key
        )
        say(f"{source.path}: {format_count(len(store.ids))} tokens made and kept for the next run")
    return Built(located.name, located, detected, renderer, store, content_hash)


def row_notes(facts: Mapping[str, Any]) -> list[str]:
    """Say what was noticed about the rows of a store while they were tokenized."""
    notes = [f"filter {idle} dropped nothing" for idle in facts["idle_filters"]]
    counted = {
        "shared_rows": "{} rows have a token that prompt and answer share",
        "special_rows": "{} rows hold the text of special tokens; it stays plain text",
        "unended_rows": "{} rows have an answer that the chat template ends with no special token, "
        "so the model does not learn to stop there; say `template: chat`",
        "cut_rows": "{} rows were cut, " + format_count(facts["cut_tokens"]) + " tokens lost",
    }
    notes += [text.format(format_count(facts[k])) for k, text in counted.items() if facts[k]]
    return notes


def _key(
    content_hash: str,
    source: Source,
    detected: Detected,
    settings: TokenSettings,
    renderer: Renderer,
    filters: list[NamedFilter],
) -> str:
    parts: Mapping[str, object] = {
        "version": 2,
        "content": content_hash,
        "format": detected.format,
        "columns": dict(detected.mapping),
        "document": source.document,
        "separator": source.separator,
        "filters": [[f.name, dict(f.settings)] for f in filters],
        "tokenizer": renderer.codec.fingerprint,
        "template": renderer.identity,
        "stage": settings.stage,
        "train_on": settings.train_on,
        "max_seq_len": settings.max_seq_len,
        "overlong": settings.overlong,
    }
    return hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _tokenize_source(
    source: Source,
    located: Located,
    detected: Detected,
    settings: TokenSettings,
    renderer: Renderer,
    filters: list[NamedFilter],
    cache_dir: Path,
    key: str,
) -> Store:
    tally = _Tally()
    labels = [file.label for file in located.files]
    with StoreWriter(cache_dir, key, renderer.codec.vocab_size) as writer:
        sink = _Sink(writer, tally, settings, labels)
        examples = Reader(located, detected, source, settings.stage).examples()
        for chunk in _chunks(_keep(examples, filters, sink)):
            rendered = [renderer.render(read.example) for read in chunk]
            rows = tokenize(rendered, renderer.codec, train_all=settings.train_on == "all")
            for read, row, text in zip(chunk, rows, rendered, strict=True):
                sink.take(read, row, text)
        writer.seal(
            {
                "labels": labels,
                "by_file": [tally.by_file.get(i, False) for i in range(len(labels))],
                "rows_in": tally.rows_in,
                "rows_out": tally.rows_out,
                "dropped": dict(sorted(tally.dropped.items())),
                "cut_rows": tally.cut_rows,
                "cut_tokens": tally.cut_tokens,
                "shared_rows": tally.shared_rows,
                "special_rows": tally.special_rows,
                "unended_rows": tally.unended_rows,
                "idle_filters": sink.idle_filters,
            }
        )
    store, why_not = open_store(cache_dir, key)
    if store is None:
        raise DataError(f"the tokens of {source.path} in {cache_dir / key} are bad: {why_not}")
    return store


class _Sink:
    """Writes kept rows and drops, and counts both."""

    def __init__(
        self, writer: StoreWriter, tally: _Tally, settings: TokenSettings, labels: list[str]
    ) -> None:
        self.writer, self.tally, self.settings = writer, tally, settings
        self.idle_filters: list[str] = []

    def drop(self, example: Example, reason: str) -> None:
        self.tally.dropped[reason] += 1
        self.writer.drop(Drop(example.id, reason))

    def take(self, read: Read, row: Row, text: Rendered) -> None:
        """Cut a row to length and write it, or drop it."""
        tally, limit = self.tally, self.settings.max_seq_len
        length, overlong = len(row.ids), self.settings.overlong
        if length > limit and overlong == "drop":
            self.drop(read.example, "overlong")
            return
        stop = min(length, limit)
        if not row.target[: length if overlong == "split" else stop].any():
            self.drop(read.example, "no target tokens")
            return
        tally.rows_out += 1
        tally.by_file[read.file] = read.by_file
        tally.shared_rows += row.shared
        tally.special_rows += text.split_specials > 0
        tally.unended_rows += text.unended > 0
        if length > limit and overlong == "split":
            # Each window begins with the last token of the one before, as context without loss,
            # so that every token after the first is predicted exactly once.
            starts = range(0, length - 1, limit - 1)
            for window, start in enumerate(starts, start=1):
                self._write(read, row, start, min(start + limit, length), window, 0)
            return
        cut = length - stop
        tally.cut_rows += cut > 0
        tally.cut_tokens += cut
        self._write(read, row, 0, stop, 0, cut)

    def _write(self, read: Read, row: Row, start: int, stop: int, window: int, cut: int) -> None:
        target = row.target[start:stop].copy()
        target[0] = False
        n_bytes = int(row.n_bytes[start:stop][target].sum())
        fields = (read.row, read.file, window, read.content, read.document, cut, n_bytes)
        self.writer.add(row.ids[start:stop], target, fields)


def _keep(reads: Iterator[Read], filters: list[NamedFilter], sink: _Sink) -> Iterator[Read]:
    """Yield the rows that pass what always holds and then every filter in turn."""
    chain = chain_of(filters)
    usable, outcomes = [], []
    for read in reads:
        sink.tally.rows_in += 1
        if reason := _unusable(read.example):
            sink.drop(read.example, reason)
            continue
        outcome = chain.run(read.example)
        usable.append(replace(read, example=outcome.example))
        outcomes.append(outcome)
    keys = []
    for m, place in enumerate(chain.memories):
        width = chain.memory(place).width
        known = [o.keys[m] if m < len(o.keys) else [0] * width for o in outcomes]
        keys.append(np.array(known, dtype=np.uint64).reshape(len(outcomes), width))
    at = chain.resolve(np.array([o.dropped_at for o in outcomes], dtype=np.int16), keys)
    changed = Counter(place for o in outcomes for place in o.changed)
    sink.idle_filters = chain.idle(at, changed)
    for read, outcome, place in zip(usable, outcomes, at.tolist(), strict=True):
        if place == NEVER:
            yield read
        else:
            why = outcome.reason if place == outcome.dropped_at else chain.memory(place).why
            sink.drop(read.example, str(why))


def _unusable(example: Example) -> str | None:
    messages = example.messages
    if any(m.role == "text" for m in messages):
        return None if any(m.content.strip() for m in messages) else "empty text"
    answers = [m for m in messages if m.role == "assistant"]
    if not answers:
        return "no target tokens"
    if any(not m.content.strip() for m in answers):
        return "empty answer"
    if not any(m.content.strip() for m in messages if m.role in ("user", "input")):
        return "empty prompt"
    return None


def _chunks(reads: Iterator[Read]) -> Iterator[list[Read]]:
    chunk: list[Read] = []
    size = 0
    for read in reads:
        chunk.append(read)
        size += sum(len(m.content) for m in read.example.messages)
        if len(chunk) == _CHUNK_ROWS or size >= _CHUNK_CHARACTERS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
