"""What `tunebook data score` does: the loss of every row under a model, to clean data by it."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tunebook.data.examples import Reader, content_key
from tunebook.data.filters.usable import unusable
from tunebook.data.render import choose_renderer
from tunebook.data.score_chunks import Chunk, batches_of_chunks, cut_chunks
from tunebook.data.scores import Score, Scores, ScoreWriter, read_scores
from tunebook.data.sources import hash_files
from tunebook.data.tokenize import tokenize
from tunebook.errors import DataError, ModelError, UsageError
from tunebook.models.load import LoadedModel, choose_device, choose_precision, load_model
from tunebook.models.tokenizer import Codec, load_tokenizer
from tunebook.records import Example
from tunebook.step.check import choose_scorer
from tunebook.step.forward import Scorer
from tunebook.step.score import score_examples
from tunebook.workflows.data_filter import open_source
from tunebook.workflows.data_show import source_of

# What a kill loses, and what is written at once.
_GROUP_ROWS = 64
_GROUP_CHARACTERS = 64 * 1024
_TOKENS_PER_BATCH = {"cpu": 2048, "mps": 4096, "cuda": 16384}
_PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
_BINS = 24
# A band that keeps less than this does not fit the model; the one proposed leaves out its tails.
_LEAST_KEPT = 0.05
_PROPOSED = (5, 95)
_HASHED_BYTES = 1 << 20

Watch = Callable[[int, int, float], None]
"""Is told rows done, rows in all, and the seconds that the rows of this call took."""


@dataclass(frozen=True, slots=True)
class Band:
    """How many rows lie in a band of losses, both ends included."""

    low: float
    high: float
    below: int
    kept: int
    above: int
    unscored: int


@dataclass(frozen=True, slots=True)
class Scored:
    """The losses of a file; `rows` are those with a line in it, `unscored` those without a loss.

    `loss` weighs every row alike; `histogram` counts rows between neighbouring `edges`. `proposed`
    is another band, where the one that was asked for keeps under 5 % of the rows or all of them.
    """

    out: str
    source: str
    model: str
    rows: int
    rows_before: int
    unscored: int
    target_tokens: int
    loss: float | None
    percentiles: Mapping[str, float]
    edges: tuple[float, ...]
    histogram: tuple[int, ...]
    band: Band
    proposed: tuple[float, float] | None
    seconds: float


@dataclass(frozen=True, slots=True)
class _Judge:
    loaded: LoadedModel
    scorer: Scorer
    codec: Codec
    reader: Reader
    template: str
    max_tokens: int
    n_chunks: int
    tokens_per_batch: int


def score(
    path: str,
    model: str,
    out: Path,
    *,
    max_tokens: int = 512,
    n_chunks: int = 16,
    keep: tuple[float, float] = (1.5, 2.5),
    stage: str | None = None,
    template: str = "auto",
    data_format: str = "auto",
    columns: Mapping[str, str] | None = None,
    document: str = "auto",
    roles: Mapping[str, str] | None = None,
    device: str = "auto",
    watch: Watch = lambda done, rows, seconds: None,
) -> Scored:
    """Score the rows that have no line in `out` yet, and sum all of them up.

    Raises DataError when `out` was begun with another model, file or setting, ModelError for the
    model, UsageError for a setting.
    """
    if keep[0] >= keep[1]:
        raise UsageError(f"--keep {keep[0]:g} {keep[1]:g}: LOW must be below HIGH")
    source = source_of(
        path, data_format=data_format, columns=columns, roles=roles, document=document
    )
    detected, reader = open_source(source, stage)
    codec = load_tokenizer(model)
    renderer = choose_renderer(template, detected.format, codec, reader.stage)
    device = choose_device(device)
    loaded = load_model(
        model, device=device, precision=choose_precision("auto", device), attention="auto"
    )
    if loaded.context_length is not None and max_tokens > loaded.context_length:
        raise UsageError(
            f"--max-tokens {max_tokens}: {model} reads at most {loaded.context_length} tokens; "
            f"say --max-tokens {loaded.context_length}"
        )
    header = {
        "version": 1,
        "model": model,
        "weights": _hash_weights(loaded.folder),
        "tokenizer": codec.fingerprint,
        "source": hash_files(reader.located),
        "format": detected.format,
        "document": document,
        "columns": dict(detected.mapping),
        "roles": dict(source.roles),
        "stage": reader.stage,
        "template": renderer.identity,
        "max_tokens": max_tokens,
        "chunks": n_chunks,
    }
    judge = _Judge(
        loaded,
        choose_scorer(loaded, codec.vocab_size),
        codec,
        reader,
        template,
        max_tokens,
        n_chunks,
        _TOKENS_PER_BATCH.get(device, 2048),
    )
    n_rows = sum(1 for _ in _usable(reader))
    if not n_rows:
        raise DataError(
            f"{path}: no row has anything to score; look at it with `tunebook data show`"
        )
    started = time.monotonic()
    with ScoreWriter(out, header) as writer:
        before = writer.written
        watch(before, n_rows, 0.0)
        for group in _groups(reader, before):
            writer.add(_score_group(judge, group))
            watch(writer.written, n_rows, time.monotonic() - started)
    seconds = time.monotonic() - started
    return _sum_up(path, model, read_scores(str(out)), before, keep, seconds)


def _usable(reader: Reader) -> Iterator[Example]:
    return (read.example for read in reader.examples() if unusable(read.example) is None)


def _groups(reader: Reader, skip: int) -> Iterator[list[Example]]:
    """Yield the rows that are not scored yet, some at a time, in file order."""
    group: list[Example] = []
    size = 0
    for number, example in enumerate(_usable(reader)):
        if number < skip:
            continue
        group.append(example)
        size += sum(len(m.content) for m in example.messages)
        if len(group) == _GROUP_ROWS or size >= _GROUP_CHARACTERS:
            yield group
            group, size = [], 0
    if group:
        yield group


def _score_group(judge: _Judge, group: list[Example]) -> list[Score]:
    reader = judge.reader
    renderer = choose_renderer(judge.template, reader.detected.format, judge.codec, reader.stage)
    block = tokenize(
        [renderer.render(example) for example in group],
        judge.codec,
        train_all=reader.stage == "cpt",
    )
    contents = [content_key(example.messages) for example in group]
    chunks: list[Chunk] = []
    for row, content in enumerate(contents):
        rows = slice(int(block.starts[row]), int(block.starts[row + 1]))
        chunks += cut_chunks(
            row,
            block.ids[rows],
            block.target[rows],
            max_tokens=judge.max_tokens,
            n_chunks=judge.n_chunks,
            seed=content,
        )
    batches = batches_of_chunks(chunks, judge.tokens_per_batch)
    sums, counts = [0.0] * len(group), [0] * len(group)
    for line in score_examples(judge.loaded, judge.scorer, batches):
        sums[int(line.id)] += line.loss_sum
        counts[int(line.id)] += line.target_tokens
    return [
        Score(example.id, content, total / n_tokens if n_tokens else None, n_tokens)
        for example, content, total, n_tokens in zip(group, contents, sums, counts, strict=True)
    ]


def _hash_weights(folder: Path) -> str:
    """Hash the ends and the middle of every file of weights, and all of the configuration.

    Whole files would take minutes; two models of one kind differ in every part of their weights.
    """
    digest = hashlib.sha256()
    weights = [*folder.glob("*.safetensors"), *folder.glob("*.safetensors.index.json")]
    for path in sorted([*weights, folder / "config.json"]):
        try:
            with path.open("rb") as stream:
                size = stream.seek(0, 2)
                digest.update(f"{path.name}\0{size}\0".encode())
                for start in (0, size // 2, max(size - _HASHED_BYTES, 0)):
                    stream.seek(start)
                    digest.update(stream.read(_HASHED_BYTES))
        except OSError as error:
            raise ModelError(
                f"{path} cannot be read ({error.strerror}), so it cannot be told under which model "
                "rows are scored; put it back"
            ) from None
    return digest.hexdigest()


def _sum_up(
    path: str, model: str, found: Scores, before: int, keep: tuple[float, float], seconds: float
) -> Scored:
    losses = found.by_row[~np.isnan(found.by_row)]
    low, high = keep
    below, above = int((losses < low).sum()), int((losses > high).sum())
    unscored = len(found.by_row) - len(losses)
    edges, histogram = _histogram(losses)
    return Scored(
        out=found.path,
        source=path,
        model=model,
        rows=len(found.by_row),
        rows_before=before,
        unscored=unscored,
        target_tokens=found.target_tokens,
        loss=math.fsum(losses.tolist()) / len(losses) if len(losses) else None,
        percentiles={f"p{p}": float(np.percentile(losses, p)) for p in _PERCENTILES}
        if len(losses)
        else {},
        edges=edges,
        histogram=histogram,
        band=Band(low, high, below, len(losses) - below - above, above, unscored),
        proposed=_propose(losses, len(losses) - below - above),
        seconds=seconds,
    )


def _propose(losses: NDArray[np.float64], n_kept: int) -> tuple[float, float] | None:
    """Give a band by the percentiles of these losses, when the one that was asked for is no use."""
    if not len(losses) or _LEAST_KEPT * len(losses) <= n_kept < len(losses):
        return None
    low, high = np.percentile(losses, _PROPOSED)
    low, high = math.floor(low * 100) / 100, math.ceil(high * 100) / 100
    return (low, high) if low < high else None


def _histogram(losses: NDArray[np.float64]) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Count losses in bins of a round width; the few beyond the outer bins count in those."""
    if not len(losses):
        return (), ()
    low, high = np.percentile(losses, (0.5, 99.5))
    widths = (0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5, 1.0, 2.0, 5.0)
    width = next((w for w in widths if (high - low) / w <= _BINS - 2), widths[-1])
    first, last = math.floor(low / width), math.floor(high / width) + 1
    edges = [place * width for place in range(first, last + 1)]
    counts = np.bincount(
        np.clip(np.floor(losses / width).astype(np.int64) - first, 0, last - first - 1),
        minlength=last - first,
    )
    return tuple(edges), tuple(int(n) for n in counts)
