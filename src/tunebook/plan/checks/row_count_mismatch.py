"""Is every row of the files either trained, held out, or left out for a reason that is told?

Rows are counted three times: in the files themselves, at the end of the pipe, and in the accounts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from tunebook.accounts import PartsAccount, SourceAccount
from tunebook.data.build import Built
from tunebook.data.order import TrainSet
from tunebook.data.prepare import Prepared
from tunebook.data.sides import OTHER_PART
from tunebook.data.split import add_slices, count_rows, first_of_rows, measure_whole
from tunebook.data.store import Store
from tunebook.plan.files import count_rows_of_files
from tunebook.plan.rows import batch_rows
from tunebook.plan.subject import Subject
from tunebook.plan.witness import Witness, has_memory
from tunebook.records import Finding

_BY_LENGTH = ("overlong", "no target tokens")
_WAY_OUT = (
    "delete the cached tokens with `tunebook clean` and plan again; if it stays, please report it"
)


def check(subject: Subject) -> Iterator[Finding]:
    """Refuse data of which rows are lost, repeated, or kept although a filter drops them."""
    prepared = subject.prepared
    if prepared is None:
        return
    for account in prepared.accounts:
        yield from _add_up(account)
    for built, source in zip(prepared.built, subject.recipe.data, strict=True):
        yield from _in_order(built)
        yield from _against_files(built, count_rows_of_files(built.located, built.detected, source))
        witnesses = [w for w in subject.witnesses if w.source == built.name]
        yield from _against_witnesses(built, witnesses, has_memory(source))
    yield from _on_one_side(prepared)
    yield from _strange_in_batches(subject)
    yield from _packed_once(prepared.train)
    if prepared.parts is not None:
        yield from _parts_add_up(prepared, prepared.parts)


def _finding(message: str, evidence: Mapping[str, object]) -> Finding:
    return Finding("row-count-mismatch", "refuse", message, evidence, _WAY_OUT)


def _add_up(account: SourceAccount) -> Iterator[Finding]:
    n_dropped = sum(account.dropped.values())
    if account.rows_in != n_dropped + account.rows_out:
        yield _finding(
            f"{account.path}: {account.rows_in} rows in are not {n_dropped} dropped and "
            f"{account.rows_out} out",
            {
                "source": account.name,
                "rows_in": account.rows_in,
                "dropped": dict(account.dropped),
                "rows_out": account.rows_out,
            },
        )


def _in_order(built: Built) -> Iterator[Finding]:
    """Hold the rows of a store against its own account, and find those that are there twice."""
    store = built.store
    n_rows = count_rows(store, np.arange(len(store)))
    n_dropped, n_in = len(store.drop_records()), int(store.facts["rows_in"])
    if n_rows + n_dropped != n_in:
        yield _finding(
            f"{built.located.path}: {n_rows} rows are stored and {n_dropped} left out of {n_in}",
            {"source": built.name, "rows_in": n_in, "stored": n_rows, "left_out": n_dropped},
        )
    n_repeated = _count_disorder(store)
    if n_repeated:
        yield _finding(
            f"{built.located.path}: {n_repeated} examples are stored twice or out of their order",
            {"source": built.name, "examples": n_repeated},
        )


def _count_disorder(store: Store) -> int:
    """Count the examples that do not stand behind the one before, by file, row, sub and window."""
    follows = np.zeros(max(len(store) - 1, 0), dtype=bool)
    is_same = ~follows
    for field in ("file", "row", "sub", "window"):
        values = np.asarray(store.rows[field], dtype=np.int64)
        follows |= is_same & (values[1:] > values[:-1])
        is_same &= values[1:] == values[:-1]
    return int((~follows).sum())


def _against_files(built: Built, counted: list[int] | None) -> Iterator[Finding]:
    if counted is None:
        return
    found = _rows_of_files(built.store, len(built.located.files))
    labels = [file.label for file in built.located.files]
    wrong = [
        f"{label}: {n} rows, {int(m)} accounted for"
        for label, n, m in zip(labels, counted, found, strict=True)
        if n != m
    ]
    if wrong:
        yield _finding(
            f"{built.located.path} has {sum(counted)} rows, and {int(found.sum())} of them are "
            f"stored or left out ({wrong[0]})",
            {
                "source": built.name,
                "rows_of_files": sum(counted),
                "accounted_for": int(found.sum()),
                "files": wrong[:5],
                "files_wrong": len(wrong),
            },
        )


def _rows_of_files(store: Store, n_files: int) -> NDArray[np.int64]:
    """Count the rows of each file that are stored or left out, several examples as one row."""
    drops, rows = store.drop_records(), store.rows
    first = (rows["sub"] <= 1) & first_of_rows(store, np.arange(len(store)))
    kept = np.bincount(rows["file"][first], minlength=n_files)
    left = np.bincount(drops["file"][drops["sub"] <= 1], minlength=n_files)
    return np.asarray(kept + left, dtype=np.int64)


def _against_witnesses(
    built: Built, witnesses: list[Witness], remembers: bool
) -> Iterator[Finding]:
    """Ask of every row read anew whether it is where its filters put it."""
    stayed = [w for w in witnesses if w.dropped_by is not None and w.numbers]
    lost = [
        w
        for w in witnesses
        if w.dropped_by is None and not w.numbers and not _is_told(w, remembers)
    ]
    for rows, what in ((stayed, "are stored although a filter drops them"), (lost, "are missing")):
        if rows:
            reasons = sorted({w.dropped_by for w in rows if w.dropped_by is not None})
            yield _finding(
                f"{built.located.path}: {len(rows)} of {len(witnesses)} rows that were read anew "
                f"{what}{f' ({reasons[0]})' if reasons else ''}, as {rows[0].id}",
                {
                    "source": built.name,
                    "rows": len(rows),
                    "rows_read_anew": len(witnesses),
                    "filters": reasons,
                    "examples": [w.id for w in rows[:5]],
                },
            )


def _is_told(witness: Witness, remembers: bool) -> bool:
    """Tell whether a row may be missing: for its length, or as one that is like another."""
    return witness.left_out in _BY_LENGTH or (remembers and witness.left_out is not None)


def _on_one_side(prepared: Prepared) -> Iterator[Finding]:
    held = {} if prepared.validation is None else {p.name: p for p in prepared.validation.parts}
    for shards in prepared.train.sources:
        for part in shards.parts:
            other = held.get(part.name)
            both = [] if other is None else np.intersect1d(part.numbers, other.numbers).tolist()
            n_twice = len(part.numbers) - len(np.unique(part.numbers))
            if both or n_twice:
                yield _finding(
                    f"{part.name}: {len(both)} examples are trained and held out, and {n_twice} "
                    "are trained twice",
                    {"source": part.name, "on_both_sides": len(both), "twice": n_twice},
                )


def _strange_in_batches(subject: Subject) -> Iterator[Finding]:
    rows = batch_rows(subject) if subject.horizon is not None else []
    strange = [row.id for row in rows if row.stored is None]
    if strange:
        yield _finding(
            f"{len(strange)} of {len(rows)} rows in the first micro-batches are none of those that "
            f"these steps should have, as {strange[0]}",
            {"rows": len(strange), "of_rows": len(rows), "examples": strange[:5]},
        )


def _packed_once(train: TrainSet) -> Iterator[Finding]:
    for shards, numbers in zip(train.sources, train.packed, strict=True):
        if numbers is None:
            continue
        n_packed = len(np.unique(numbers))
        if n_packed != len(shards) or len(numbers) != len(shards):
            yield _finding(
                f"{shards.name}: {len(shards)} examples were to be packed, {len(numbers)} are, and "
                f"{n_packed} different ones",
                {"source": shards.name, "examples": len(shards), "packed": len(numbers)},
            )


def _parts_add_up(prepared: Prepared, parts: PartsAccount) -> Iterator[Finding]:
    """Hold the parts against the whole, and what is trained against its part."""
    total = add_slices(parts.slices)
    if total != parts.whole:
        yield _finding(
            f"the {len(parts.slices)} parts hold {total.examples} of {parts.whole.examples} "
            "examples, or not the same ones",
            {"parts": [s.examples for s in parts.slices], "whole": parts.whole.examples},
        )
    trained = [p for shards in prepared.train.sources for p in shards.parts]
    found = add_slices(measure_whole(p.store, p.numbers) for p in trained)
    due = parts.whole if parts.part is None else parts.slices[parts.part - 1]
    if (found.examples, found.checksum) != (due.examples, due.checksum):
        which = "the whole" if parts.part is None else f"part {parts.part}"
        yield _finding(
            f"{found.examples} examples are trained, and {which} has {due.examples}, or they are "
            "not the same",
            {"part": parts.part, "trained": found.examples, "counted": due.examples},
        )
    due_rows = sum(a.train_rows + a.dropped.get(OTHER_PART, 0) for a in prepared.accounts)
    # By piece, a row is in several parts and counts where it begins.
    if parts.by == "document" and parts.whole.rows != due_rows:
        yield _finding(
            f"parts were made of {parts.whole.rows} rows, and {due_rows} are to be trained",
            {"rows_of_parts": parts.whole.rows, "rows_to_train": due_rows},
        )
