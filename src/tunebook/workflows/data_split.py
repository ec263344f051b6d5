"""What `tunebook data split` does: which rows are held out, and which part has which."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from tunebook.accounts import Slice
from tunebook.book.atomic import files_aside
from tunebook.data.detect import detect
from tunebook.data.examples import Reader
from tunebook.data.filters import build_filters, chain_of
from tunebook.data.prepare import prepare, validation_source
from tunebook.data.shards import Part, Shards
from tunebook.data.sources import locate
from tunebook.data.split import add_slices, measure_whole, part_of_each, piece_hashes
from tunebook.data.written import rows_of, written_format
from tunebook.errors import DataError, StorageError, UsageError
from tunebook.models.tokenizer import load_tokenizer
from tunebook.recipe.load import recipe_from_mapping
from tunebook.recipe.tree import Recipe, Source
from tunebook.workflows.data_mix import Ready, prepared_run_file
from tunebook.workflows.data_show import refuse_stated

Say = Callable[[str], None]
VALIDATION, TRAIN = "validation", "train"
_NO_LIMIT = 2**30


@dataclass(frozen=True, slots=True)
class SideShown:
    """One side: `validation`, and `train` or `part 1`, `part 2` and so on."""

    name: str
    rows: int
    documents: int
    examples: int
    tokens: int


@dataclass(frozen=True, slots=True)
class SplitShown:
    """Where rows go: `rows_in` are those of all sides and those dropped, always.

    `held_out_and_trained` counts held-out examples whose very content is also trained on,
    `in_several_parts` contents that more than one part has.
    """

    sources: tuple[str, ...]
    rows_in: int
    dropped: dict[str, int]
    sides: tuple[SideShown, ...]
    held_out_and_trained: int
    in_several_parts: int
    notes: tuple[str, ...]
    files: tuple[str, ...]


def split(
    target: str,
    overrides: Sequence[str] = (),
    *,
    fraction: float | None = None,
    parts: int | None = None,
    out: Path | None = None,
    force: bool = False,
    data_format: str = "auto",
    document: str = "auto",
    columns: Mapping[str, str] | None = None,
    roles: Mapping[str, str] | None = None,
    model: str = "tunebook/tiny",
    template: str = "auto",
    stage: str | None = None,
    say: Say = lambda _: None,
) -> SplitShown:
    """Split a data file, or the sources of a run file as its run would, and write each side's rows.

    Nothing is written without `out`. Raises UsageError for what cannot be written, DataError for
    the data, RunFileError for the run file.
    """
    asked = [
        *([f"validation.fraction={fraction!r}"] if fraction is not None else []),
        *([f"parts={parts}"] if parts is not None else []),
    ]
    stated = {
        "format": data_format,
        "document": document,
        "columns": dict(columns or {}),
        "roles": dict(roles or {}),
    }
    with ExitStack() as stack:
        if Path(target).suffix in (".yaml", ".yml"):
            refuse_stated({**stated, "template": template, "stage": stage}, target)
            opened = prepared_run_file(target, [*overrides, *asked], say, whole=True)
        else:
            values = {"data": [{"path": target, **stated}], "model": model, "template": template}
            opened = _prepared_file(values, stage, [*overrides, *asked], say)
        ready = stack.enter_context(opened)
        sides = _sides(ready)
        files = _write(ready, sides, out, force) if out is not None else ()
        return _shown(ready, sides, files)


@contextmanager
def _prepared_file(
    stated: dict[str, Any], stage: str | None, overrides: Sequence[str], say: Say
) -> Iterator[Ready]:
    source = Source.model_validate(stated["data"][0])
    path = source.path
    if stage is None:
        stage = "cpt" if detect(locate(path), source).format == "text" else "sft"
    text = stage == "cpt"
    values = {
        **stated,
        "name": "split",
        "stage": stage,
        "packing": False,
        # Rows are only counted, so none is too long; text is cut into windows as for a run.
        **({} if text else {"max_seq_len": _NO_LIMIT}),
    }
    recipe = recipe_from_mapping(values, path, Path.cwd(), overrides).recipe
    with tempfile.TemporaryDirectory(prefix="tunebook-split-") as folder:
        codec = load_tokenizer(recipe.model, recipe.add_tokens, Path(folder))
        yield Ready(recipe, prepare(recipe, codec, Path(folder), say))


Sides = dict[str, list[Part]]
"""The examples of each side, source by source."""


def _sides(ready: Ready) -> Sides:
    prepared, parts = ready.prepared, ready.recipe.parts
    training = [part for shards in prepared.train.sources for part in shards.parts]
    sides: Sides = {}
    if prepared.validation is not None:
        sides[VALIDATION] = list(prepared.validation.parts)
    if parts is None:
        return {**sides, TRAIN: training}
    for part in training:
        by = prepared.parts.by if prepared.parts else "document"
        place = part_of_each(part.store, part.numbers, parts, by)
        for k in range(1, parts + 1):
            mine = Part(part.name, part.store, part.numbers[place == k])
            sides.setdefault(f"part {k}", []).append(mine)
    return sides


def _measure(parts: Sequence[Part]) -> Slice:
    return add_slices(measure_whole(part.store, part.numbers) for part in parts)


def _shown(ready: Ready, sides: Sides, files: tuple[str, ...]) -> SplitShown:
    accounts = ready.prepared.accounts
    dropped: dict[str, int] = {}
    for account in accounts:
        for why, n_rows in account.dropped.items():
            dropped[why] = dropped.get(why, 0) + n_rows
    contents = {
        name: np.unique(np.concatenate([piece_hashes(p.store, p.numbers) for p in parts]))
        for name, parts in sides.items()
    }
    held = contents.pop(VALIDATION, np.zeros(0, dtype=np.uint64))
    trained = np.concatenate(list(contents.values()))
    found, times = np.unique(trained, return_counts=True)
    shown = []
    for name, parts in sides.items():
        one = _measure(parts)
        tokens = int(Shards(parts).lengths.sum())
        shown.append(SideShown(name, one.rows, one.documents, one.examples, tokens))
    return SplitShown(
        sources=tuple(account.path for account in accounts),
        rows_in=sum(account.rows_in for account in accounts),
        dropped=dropped,
        sides=tuple(shown),
        held_out_and_trained=int(np.isin(held, found).sum()),
        in_several_parts=int((times > 1).sum()),
        notes=ready.prepared.notes,
        files=files,
    )


# --- writing ------------------------------------------------------------------------------------


def _write(ready: Ready, sides: Sides, out: Path, force: bool) -> tuple[str, ...]:
    """Write `<source>-<side>.jsonl` of every source and side; all of them or none."""
    sources = _sources(ready.recipe)
    names = [account.name for account in ready.prepared.accounts]
    wanted = {
        (name, side): out / f"{name.replace(':', '-').replace('/', '-')}-{_slug(side)}.jsonl"
        for side, parts in sides.items()
        for name in (part.name for part in parts)
    }
    there = next((path for path in wanted.values() if path.exists()), None)
    if there is not None and not force:
        raise UsageError(
            f"{there} is there already; name another folder for --out, or --force writes over it"
        )
    read = [file.path for source in sources for file in locate(source.path).files]
    for path in wanted.values():
        if path.exists() and any(path.samefile(one) for one in read):
            raise UsageError(f"{path} is a file that is read; name another folder for --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"cannot write to {out}: {error.strerror}; name another folder"
        ) from None
    with files_aside(list(wanted.values())) as files:
        streams = dict(zip(wanted, files, strict=True))
        for name, source in zip(names, sources, strict=True):
            mine = {
                side: part for side, parts in sides.items() for part in parts if part.name == name
            }
            for side, row in _rows(source, ready.recipe.stage, mine):
                streams[name, side].write(orjson.dumps(row) + b"\n")
    return tuple(str(path) for path in wanted.values())


def _slug(side: str) -> str:
    return side.replace(" ", "-")


def _sources(recipe: Recipe) -> list[Source]:
    own = [validation_source(recipe)] if recipe.validation.path is not None else []
    return [*recipe.data, *own]


def _rows(source: Source, stage: str, mine: dict[str, Part]) -> Iterator[tuple[str, Any]]:
    """Read a source again and yield the rows of its sides, as its filters rewrote them."""
    located = locate(source.path)
    detected = detect(located, source)
    written = written_format(detected.format, stage)
    chain = chain_of(build_filters(source.filters, source))
    where, side_of, sides = _places(source, mine)
    at = 0
    for read in Reader(located, detected, source, stage).examples():
        if at == len(where):
            return
        if where[at].tolist() != (read.file, read.row, read.sub):
            continue
        for row in rows_of(read, chain.run(read.example).example, written):
            yield sides[side_of[at]], row
        at += 1
    if at < len(where):
        raise DataError(f"{source.path} changed while it was read; split it again")


def _places(
    source: Source, mine: dict[str, Part]
) -> tuple[NDArray[Any], NDArray[np.int64], list[str]]:
    """Give where each row that is on a side stands, in file order, and the side."""
    sides = list(mine)
    fields = ["file", "row", "sub"]
    rows = np.concatenate([part.store.rows[fields][part.numbers] for part in mine.values()])
    side = np.repeat(np.arange(len(sides)), [len(part.numbers) for part in mine.values()])
    order = np.argsort(np.concatenate([part.numbers for part in mine.values()]), kind="stable")
    rows, side = rows[order], side[order]
    first = np.ones(len(rows), dtype=bool)
    first[1:] = rows[1:] != rows[:-1]
    owner = side[np.flatnonzero(first)][np.cumsum(first) - 1]
    torn = np.flatnonzero(owner != side)
    if len(torn):
        raise DataError(
            f"{source.path}: row {rows['row'][torn[0]]} is on several sides, since a single "
            "document is cut in pieces; say what a document is before writing rows"
        )
    return rows[first], side[first], sides
