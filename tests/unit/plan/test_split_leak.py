"""What is held out and trained on all the same, by document, by content and nearly."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tunebook.data.prepare import Prepared
from tunebook.plan.checks.split_leak import check, count_overlap
from tunebook.records import Finding

Leaks = Callable[..., list[Finding]]


@pytest.fixture
def prepared(tmp_path: Path, tiny_model: Path) -> Callable[..., Prepared]:
    """Give a function that prepares rows, and held-out rows of a file of their own."""
    from tunebook.data.prepare import prepare
    from tunebook.models.tokenizer import load_tokenizer
    from tunebook.recipe.tree import Recipe

    codec = load_tokenizer(str(tiny_model))

    def find(rows: list[Any], held: list[Any] | None = None, **changes: Any) -> Prepared:
        path, other = tmp_path / "a.jsonl", tmp_path / "held.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        if held is not None:
            other.write_text("".join(json.dumps(row) + "\n" for row in held))
            changes["validation"] = {"path": str(other)}
        values = {"name": "leak", "model": "m", "data": [{"path": str(path)}], **changes}
        return prepare(Recipe(**values), codec, tmp_path / "cache", lambda _text: None)

    return find


@pytest.fixture
def leaks(prepared: Callable[..., Prepared]) -> Leaks:
    """Give a function that prepares rows and says what leaks."""

    def find(*rows: list[Any], **changes: Any) -> list[Finding]:
        found = SimpleNamespace(prepared=prepared(*rows, **changes))
        return list(check(found))  # type: ignore[arg-type]

    return find


def qa_rows(n: int, words: str = "what") -> list[dict[str, str]]:
    return [
        {"prompt": f"{words} {i}", "completion": f"{i} and {i * i} of {words}"} for i in range(n)
    ]


def story(n: int) -> str:
    return " ".join(
        f"On day {n * k} the sailor saw {n + 7 * k} gulls over the sea." for k in range(6)
    )


def test_rows_of_a_validation_file_that_are_trained_on_are_refused(leaks: Leaks) -> None:
    (found,) = leaks(qa_rows(5), [*qa_rows(2), {"prompt": "new", "completion": "n"}])
    assert (found.name, found.level) == ("split-leak", "refuse")
    assert found.evidence["examples"] == 2
    assert found.evidence["rows"] == ["validation:held#1", "validation:held#2"]


def test_a_row_that_another_part_trains_on_is_a_leak_all_the_same(leaks: Leaks) -> None:
    for part in (1, 2):
        (found,) = leaks(qa_rows(20), qa_rows(20), parts=2, part=part)
        assert found.evidence["examples"] == 20


def test_a_split_by_document_leaks_nothing(leaks: Leaks) -> None:
    assert leaks(qa_rows(60) * 2, validation={"fraction": 0.3}) == []


def test_of_a_single_document_the_tail_is_no_leak(leaks: Leaks) -> None:
    text = " ".join(f"word{i}" for i in range(2000))
    common = {"stage": "cpt", "max_seq_len": 64, "validation": {"fraction": 0.1}}
    assert leaks([{"text": text}], **common) == []


def test_what_rows_say_again_all_over_is_only_a_warning(leaks: Leaks) -> None:
    rows = [{"id": i, "prompt": f"game {i % 50}", "completion": f"e{i % 50}"} for i in range(100)]
    held = [*qa_rows(60), *({"prompt": "game 7", "completion": "e7"},) * 2]
    (found,) = leaks(rows, held)
    assert (found.level, found.evidence["examples"]) == ("warn", 2)


def test_nearly_the_same_text_on_both_sides_is_a_warning(leaks: Leaks) -> None:
    rows = [{"text": story(n)} for n in range(2, 40)]
    near = [{"text": f"Once more. {story(n)}"} for n in range(2, 12)]
    (found,) = leaks(rows, near, stage="cpt", max_seq_len=512)
    assert found.level == "warn"
    assert found.evidence["share"] == 1
    assert {"held_out": "validation:held#1", "trained": "a#1"}.items() <= found.evidence["pairs"][
        0
    ].items()
    other = [{"text": story(n)} for n in range(50, 60)]
    assert leaks(rows, other, stage="cpt", max_seq_len=512) == []


def test_the_overlap_of_a_run_is_counted_and_unknown_where_nothing_is_held_out(
    prepared: Callable[..., Prepared], monkeypatch: pytest.MonkeyPatch
) -> None:
    held = [*qa_rows(2), {"prompt": "new", "completion": "n"}]
    assert count_overlap(prepared(qa_rows(5), held)) == (2, 3)
    assert count_overlap(prepared(qa_rows(60) * 2, validation={"fraction": 0.3}))[0] == 0
    assert count_overlap(prepared(qa_rows(5), validation={"fraction": 0.0})) is None
    monkeypatch.setattr("tunebook.plan.checks.split_leak._MOST_COUNTED", 4)
    assert count_overlap(prepared(qa_rows(5), held)) is None
