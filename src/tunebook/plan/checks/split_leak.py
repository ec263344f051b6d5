"""split-leak: what is held out must not be trained on, or the validation loss is too good."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tunebook.data.prepare import Prepared
from tunebook.data.shards import Part, Shards
from tunebook.plan.near_rows import find_near
from tunebook.plan.subject import Subject
from tunebook.records import Finding

_FEW, _MUCH = 0.01, 0.1
_HELD_ROWS, _TRAIN_ROWS = 500, 50_000
_OVERLAP = 0.8
_BLOCK, _TABLE_BITS = 2**20, 24
_MOST_COUNTED = 50_000_000


def check(subject: Subject) -> Iterator[Finding]:
    """Look for documents, contents and near-identical texts that stand on both sides.

    Rows that other parts train on count as trained. A single document whose tail is held out has no
    other side, and the split says so.
    """
    prepared = subject.prepared
    if prepared is None or prepared.validation is None or not len(prepared.validation):
        return
    train, held = _trained(prepared), prepared.validation.parts
    by_document = _documents(train, held)
    if by_document is not None:
        yield by_document
        return
    by_content = _contents(train, prepared.validation)
    if by_content is not None:
        yield by_content
        return
    near = _near(train, held)
    if near is not None:
        yield near


def count_overlap(prepared: Prepared) -> tuple[int, int] | None:
    """Count the held-out examples whose content is trained on, and all of them.

    None where nothing is held out, or where there are so many training examples that looking
    through their hashes takes more than a few seconds.
    """
    if prepared.validation is None or not len(prepared.validation):
        return None
    train = _trained(prepared)
    if sum(len(part.numbers) for part in train) > _MOST_COUNTED:
        return None
    leaked = _leaked(train, prepared.validation)
    return int(leaked.sum()), len(leaked)


def _trained(prepared: Prepared) -> list[Part]:
    trained = (part for shards in prepared.train.sources for part in shards.parts)
    return _joined([*prepared.seen, *trained])


def _joined(parts: Sequence[Part]) -> list[Part]:
    """Join the examples of parts of the same source and store."""
    found: dict[tuple[str, Path], Part] = {}
    for part in parts:
        key = (part.name, part.store.folder)
        known = found.get(key)
        if known is None or not np.array_equal(known.numbers, part.numbers):
            before = part.numbers[:0] if known is None else known.numbers
            found[key] = Part(part.name, part.store, np.union1d(before, part.numbers))
    return list(found.values())


def _documents(train: Sequence[Part], held: Sequence[Part]) -> Finding | None:
    """Find documents that have rows on both sides."""
    found: list[tuple[Part, int]] = []
    n_documents = 0
    for part in held:
        keys = np.asarray(part.store.rows["document"][part.numbers])
        n_documents += len(np.unique(keys))
        shared = np.zeros(len(keys), dtype=bool)
        for other in train:
            same_store = other.store.folder == part.store.folder
            if same_store and _is_cut_tail(other, part):
                continue
            mine = np.ones(len(keys), dtype=bool) if same_store else _is_known(part, part.numbers)
            both = _also_in(np.unique(keys[mine]), other, "document", everywhere=same_store)
            shared |= mine & np.isin(keys, both)
        found += [(part, int(number)) for number in part.numbers[shared]]
    if not found:
        return None
    names = [Shards([Part(p.name, p.store, np.array([n]))]).example(0) for p, n in found[:5]]
    n_shared = len({(p.name, int(p.store.rows["document"][n])) for p, n in found})
    n_held = sum(len(part.numbers) for part in held)
    return Finding(
        "split-leak",
        "refuse",
        f"{n_shared} of {n_documents} held-out documents are trained on, too ({len(found)} of "
        f"{n_held} held-out examples), so the validation loss is too good",
        {
            "documents": n_shared,
            "held_out_documents": n_documents,
            "examples": len(found),
            "held_out_examples": n_held,
            "rows": [one.id for one in names],
            "document_names": list(dict.fromkeys(one.document for one in names)),
        },
        "split by document (`document:` says what one is), or hold out a file of its own",
    )


def _also_in(
    keys: NDArray[np.uint64], part: Part, field: str, *, everywhere: bool = True
) -> NDArray[np.uint64]:
    """Give those of some keys that a part has, in a time that grows with its rows and no faster.

    Without `everywhere` only rows count whose document can be told in another source.
    """
    # Keys are hashes, so their first bits tell nearly all apart.
    table = np.zeros(2**_TABLE_BITS, dtype=bool)
    table[keys >> np.uint64(64 - _TABLE_BITS)] = True
    found = [keys[:0]]
    for start in range(0, len(part.numbers), _BLOCK):
        numbers = part.numbers[start : start + _BLOCK]
        there = np.asarray(part.store.rows[field][numbers])
        wanted = table[there >> np.uint64(64 - _TABLE_BITS)]
        if not everywhere:
            wanted &= _is_known(part, numbers)
        found.append(np.intersect1d(keys, there[wanted]))
    return np.unique(np.concatenate(found))


def _is_known(part: Part, numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Mark rows whose document can be told in another source, too.

    Files are known by their names, which may be the same in two folders, and a row that is its own
    document by what it says, which is looked at by itself.
    """
    rows = part.store.rows[numbers]
    by_file = np.array(part.store.facts["by_file"], dtype=bool)[rows["file"]]
    return np.asarray(~by_file & (rows["document"] != rows["content"]), dtype=np.bool_)


def _is_cut_tail(train: Part, held: Part) -> bool:
    """Say whether both are one document of which the end is held out."""
    if not len(train.numbers) or held.numbers.min() < train.numbers.max():
        return False
    documents = train.store.rows["document"]
    only = documents[train.numbers[0]]
    return bool(
        (documents[train.numbers] == only).all() and (documents[held.numbers] == only).all()
    )


def _leaked(train: Sequence[Part], validation: Shards) -> NDArray[np.bool_]:
    """Mark held-out examples whose content is trained on; not the rest of a row that was cut."""
    # Windows of a row have its content: where no beginning is held out, only tails are.
    windows = [np.asarray(p.store.rows["window"][p.numbers]) for p in validation.parts]
    begun = np.unique(validation.contents[np.concatenate(windows) <= 1])
    both = [_also_in(begun, part, "content") for part in train]
    return np.asarray(np.isin(validation.contents, np.concatenate(both)), dtype=np.bool_)


def _contents(train: Sequence[Part], validation: Shards) -> Finding | None:
    leaked = _leaked(train, validation)
    if not leaked.any():
        return None
    n, lengths = int(leaked.sum()), validation.lengths
    share, repeated = float(lengths[leaked].sum() / lengths.sum()), _repeated(train)
    # Where rows say again what others say all over, as games begin alike, no split is at fault.
    natural = share < _MUCH and n / len(leaked) <= 2 * repeated
    ids = [validation.example(i).id for i in np.flatnonzero(leaked)[:5].tolist()]
    return Finding(
        "split-leak",
        "warn" if natural else "refuse",
        f"{n} of {len(leaked)} held-out examples are trained on word for word ({share:.1%} of the "
        "held-out tokens), so the validation loss is too good",
        {
            "examples": n,
            "held_out_examples": len(leaked),
            "share_of_tokens": share,
            "share_repeated_in_training": repeated,
            "rows": ids,
        },
        "take them out of one side, as with `filters: [exact_duplicate]` in the source, or hold "
        "out other rows",
    )


def _repeated(train: Sequence[Part]) -> float:
    """Give the share of training rows that say what another of them says."""
    first = [p.store.rows["window"][p.numbers] <= 1 for p in train]
    contents = Shards(train).contents[np.concatenate(first)]
    found, times = np.unique(contents, return_counts=True)
    del found
    return float(times[times > 1].sum() / max(1, len(contents)))


def _near(train: Sequence[Part], held: Sequence[Part]) -> Finding | None:
    found = find_near(train, held, _HELD_ROWS, _TRAIN_ROWS, _OVERLAP)
    if len(found.pairs) < max(3, _FEW * found.held_rows):
        return None
    return Finding(
        "split-leak",
        "warn",
        f"{len(found.pairs)} of {found.held_rows} held-out examples looked at are nearly the same "
        f"as one of {found.train_rows} training examples, so the validation loss is too good",
        {
            "share": len(found.pairs) / found.held_rows,
            "held_out_looked_at": found.held_rows,
            "trained_looked_at": found.train_rows,
            "overlap_of_8_grams_at_least": _OVERLAP,
            "pairs": [{"held_out": a, "trained": b, "overlap": o} for a, b, o in found.pairs[:5]],
        },
        "drop copies with `filters: [near_duplicate]` in the source, or say with `document:` what "
        "belongs together",
    )
