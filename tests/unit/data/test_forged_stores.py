"""A store that comes with a stranger's book may be sealed as it should, and be none."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tunebook.data.seal import _FLAGS
from tunebook.data.store import (
    DROP_FIELDS,
    INDEX,
    ROW_FIELDS,
    _seal_of,
    open_store,
    sha256_of,
    write_index,
)
from tunebook.data.store_shape import COUNTED, ids_name, target_name

Index = dict[str, Any]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "key"
    folder.mkdir()
    for number, n in enumerate((40, 24)):
        np.arange(n, dtype="<u2").tofile(folder / ids_name(number))
        np.full(n // 8, 255, dtype=np.uint8).tofile(folder / target_name(number))
    rows = np.zeros(4, dtype=ROW_FIELDS)
    rows["start"], rows["length"], rows["row"] = [0, 20, 40, 64], [20, 20, 24, 0], [1, 2, 3, 4]
    rows.tofile(folder / "rows.bin")
    drops = np.zeros(1, dtype=DROP_FIELDS)
    drops.tofile(folder / "drops.bin")
    facts: Index = {"made_from": {}, "labels": ["rows"], "by_file": [False], "reasons": ["empty"]}
    facts |= {"dropped": {"empty": 1}, "changed": {}, "idle_filters": []}
    facts |= dict.fromkeys(COUNTED, 0)
    write_index(folder, np.dtype("<u2"), [40, 24], hashes(folder), facts)
    return folder


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: sha256_of(path) for path in folder.glob("*.bin")}


def forge(folder: Path, change: Callable[[Index], object]) -> str | None:
    """Change the index, seal it anew, and say why it is not taken."""
    index = json.loads((folder / INDEX).read_text())
    index["files"] |= {n: h for n, h in hashes(folder).items() if n in index["files"]}
    change(index)
    index["seal"] = _seal_of(index)
    (folder / INDEX).write_text(json.dumps(index))
    found, why = open_store(folder.parent, folder.name)
    assert (found is None) is (why is not None)
    return why


def test_what_was_written_is_taken(store: Path) -> None:
    assert forge(store, lambda index: None) is None
    found, _ = open_store(store.parent, store.name)
    assert found is not None
    assert [len(found.tokens(number)[0]) for number in range(3)] == [20, 20, 24]


@pytest.mark.timeout(60)
def test_an_index_that_is_a_pipe_is_not_waited_for(store: Path) -> None:
    (store / INDEX).unlink()
    os.mkfifo(store / INDEX)
    found, why = open_store(store.parent, store.name)
    assert found is None
    assert "pipe" in str(why)


@pytest.mark.parametrize("dtype", ["|O", "O", "<u8", "<f4", "|V8", "<i2", ">u2", "", None, ["<u2"]])
def test_no_ids_but_small_numbers_are_mapped(store: Path, dtype: object) -> None:
    why = forge(store, lambda index: index.update(dtype=dtype))
    assert why is not None


@pytest.mark.parametrize(
    "tokens", [[40], [40, 24, 8], [41, 24], [24, 40], [40, -24], [40.0, 24], "40", {}]
)
def test_segments_have_the_tokens_that_are_told(store: Path, tokens: object) -> None:
    assert forge(store, lambda index: index.update(segment_tokens=tokens)) is not None


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "ids-00009.bin", ""])
def test_no_file_is_read_but_those_of_a_store(store: Path, name: str) -> None:
    (store.parent / "outside").write_bytes(b"x")
    assert forge(store, lambda index: index["files"].update({name: "0" * 64})) is not None


def test_no_file_of_a_store_may_be_left_out(store: Path) -> None:
    assert forge(store, lambda index: index["files"].pop("rows.bin")) is not None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("start", n) for n in (-1, -(2**63), 21, 39, 64, 2**62, 2**63 - 1)),
        *(("length", n) for n in (-1, 21, 2**31 - 1)),
        *(("n_target", n) for n in (-1, 21)),
        *(("file", n) for n in (-1, 1)),
        *(("row", -1), ("sub", -1)),
    ],
)
def test_no_row_lies_outside_of_its_files(store: Path, field: str, value: int) -> None:
    rows = np.fromfile(store / "rows.bin", dtype=ROW_FIELDS)
    rows[field][1] = value
    rows.tofile(store / "rows.bin")
    why = forge(store, lambda index: None)
    assert why is not None
    assert "row 2 " in why


@pytest.mark.parametrize(("field", "value"), [("reason", 1), ("reason", -1), ("file", 7)])
def test_each_row_that_was_left_out_has_its_file_and_reason(
    store: Path, field: str, value: int
) -> None:
    drops = np.fromfile(store / "drops.bin", dtype=DROP_FIELDS)
    drops[field] = value
    drops.tofile(store / "drops.bin")
    assert forge(store, lambda index: None) is not None


@pytest.mark.parametrize("name", ["rows.bin", "drops.bin"])
def test_no_file_of_rows_ends_within_a_row(store: Path, name: str) -> None:
    with (store / name).open("ab") as file:
        file.write(b"x")
    assert forge(store, lambda index: None) is not None


@pytest.mark.parametrize("value", [None, "x", -1, [1], ["x", 1], {"a": "b"}, True, [[]]])
@pytest.mark.parametrize(
    "name", ["labels", "by_file", "reasons", "dropped", "changed", "idle_filters", "rows_in"]
)
def test_facts_are_what_they_are_called(store: Path, name: str, value: object) -> None:
    assert forge(store, lambda index: index["facts"].update({name: value})) is not None


@pytest.mark.parametrize("name", ["made_from", "labels", "reasons", "dropped", "rows_in"])
def test_no_fact_may_be_missing(store: Path, name: str) -> None:
    assert forge(store, lambda index: index["facts"].pop(name)) is not None


def test_all_that_is_counted_of_rows_is_kept() -> None:
    assert set(_FLAGS) <= set(COUNTED)
