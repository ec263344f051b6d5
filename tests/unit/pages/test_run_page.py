from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from made_runs import make_plan, make_run, make_step
from tunebook.book.checkpoints import mark_best, writing_checkpoint, writing_folder
from tunebook.book.events import EventWriter
from tunebook.book.index import run_summaries
from tunebook.book.places import RunFolder
from tunebook.pages.family import find_family
from tunebook.pages.index_page import build_index_page
from tunebook.pages.lineage import setting_words
from tunebook.pages.run_page import build_run_page, read_page_source
from tunebook.records import Diagnosis
from tunebook.watch.non_finite import find_non_finite

GOLDEN = Path(__file__).parent / "run_page.golden.md"


def fixed(page: str) -> str:
    """Replace what differs from one writing to the next."""
    page = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME", page)
    return re.sub(r"\d+(\.\d+)? (B|KiB) \|", "SIZE |", page)


def test_the_page_of_a_small_run_is_the_golden_one(book: Path) -> None:
    make_run(book, "base", loss=2.5, learning_rate=1e-4)
    predict = ("val_loss < base.val_loss", "perplexity < 2", "no non_finite", "no spike")
    run = make_run(book, "child", steps=20, extends="base", method="lora", rank=8, predict=predict)
    for step in (10, 20):
        with writing_checkpoint(run, step) as path:
            (path / "model.safetensors").write_bytes(b"x" * 100)
    mark_best(run, 20)
    make_plan(run)
    with writing_folder(run.final) as path:
        (path / "model.safetensors").write_bytes(b"x" * 100)
    page = fixed(build_run_page(run, book))
    assert page == GOLDEN.read_text(encoding="utf-8")


def test_a_new_run_has_a_page_without_empty_sections(book: Path) -> None:
    run = RunFolder(book, "n")
    run.path.mkdir()
    run.run_yaml.write_text("name: n\nmodel: m\nnotebook: {predict: [val_loss < 2]}\n")
    page = build_run_page(run, book)
    assert "**new**" in page
    assert "| so far" in page
    assert "## Loss" not in page
    assert "## Findings" not in page


def test_a_broken_seal_is_said(book: Path) -> None:
    run = make_run(book, "a")
    run.seal_json.write_text(run.seal_json.read_text().replace("enough", "too few"))
    assert "**The seal is broken:**" in build_run_page(run, book)


def test_a_verdict_shows_its_evidence_and_nan_is_shown_as_nan(book: Path) -> None:
    run = make_run(book, "a", state=None)
    with EventWriter(run, 1) as events:
        events.write("step", make_step(11, math.nan))
        verdict = find_non_finite([make_step(10), make_step(11, math.nan)])
        assert verdict is not None
        many = {**verdict.evidence, "examples": [f"sayings#{n}" for n in range(20)]}
        found = replace(verdict, evidence=many, changes=("train.learning_rate=2.5e-05",))
        found_in = ("non_finite", "bad_batch")
        blind = {"overfitting": "the log has no validations"}
        events.write("verdicts", Diagnosis(11, (found,), found_in, blind, final=True))
        events.write("state", {"state": "stopped", "reason": "3 bad | steps", "step": 11})
    page = build_run_page(run, book)
    assert "**non_finite, step 11 (certain)**: the loss became NaN at step 11" in page
    assert "sayings#5 and 14 more" in page
    assert "tunebook new a_next --from a train.learning_rate=2.5e-05" in page
    assert "× not finite" in page
    assert "▲ verdict" in page
    assert "It was stopped because: 3 bad \\| steps" in page
    assert "and not found: `bad_batch`." in page
    assert "Not looked for: overfitting: the log has no validations." in page


@pytest.mark.parametrize("field", ["model", "learning_rate"])
def test_hostile_text_stays_inside_its_place(book: Path, field: str) -> None:
    hostile = "'x`|<script>alert(1)</script>'"
    run = make_run(book, "a", model=hostile, predict=("val_loss < 2 | `x` <b>",))
    page = build_run_page(run, book)
    outside = re.sub(r"^(`{3,})text\n.*?^\1\n", "", page, flags=re.DOTALL | re.MULTILINE)
    outside = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", outside)
    outside = re.sub(r"^base: .*$", "", outside, flags=re.MULTILINE)
    assert "<script>" not in outside
    assert "<b>" not in outside


def test_a_family_is_what_extends_or_starts_from_each_other(book: Path) -> None:
    make_run(book, "a")
    make_run(book, "b", extends="a")
    make_run(book, "c", extends="../b/run.yaml")
    make_run(book, "d", model="run:c")
    make_run(book, "stranger")
    runs = {summary.name: summary for summary in run_summaries(book)}
    assert [member.name for member in find_family(runs["c"], runs)] == ["a", "b", "c", "d"]
    assert 'base: "tunebook/tiny"' in build_run_page(RunFolder(book, "d"), book)
    assert 'parents: ["c"]' in build_run_page(RunFolder(book, "d"), book)


def test_a_family_has_at_most_ten_members(book: Path) -> None:
    for number in range(13):
        make_run(book, f"r{number}", steps=1, extends="r0" if number else "~")
    runs = {summary.name: summary for summary in run_summaries(book)}
    assert len(find_family(runs["r7"], runs)) == 10


def test_the_index_is_a_dated_list_then_open_predictions_then_to_try(book: Path) -> None:
    make_run(book, "a")
    make_run(book, "b", extends="a", learning_rate=1e-4)
    new = RunFolder(book, "n")
    new.path.mkdir()
    new.run_yaml.write_text("name: n\nmodel: m\n")
    from tunebook.records import Outcome

    waiting = {"a": (Outcome("val_loss < z.val_loss", None, "", "there is no run z"),)}
    page = build_index_page(run_summaries(book), waiting)
    assert re.search(r"^- \d{4} \w{3} \d\d - \[a\]\(runs/a/notebook\.md\): sft", page, re.MULTILINE)
    assert "a with learning_rate=0.0001; finished, val_loss 2.000" in page
    assert page.index("## History") < page.index("## Open predictions") < page.index("## To try")
    assert "unknown: there is no run z" in page


def test_a_run_of_which_only_its_state_is_known_has_no_empty_item(book: Path) -> None:
    new = RunFolder(book, "n")
    new.path.mkdir()
    new.run_yaml.write_text("name: n\n")
    (summary,) = run_summaries(book)
    bare = replace(summary, stage="", method="", model="")
    assert "- [n](runs/n/notebook.md): new\n" in build_index_page([bare], {})


@pytest.mark.parametrize("sources", [1, 2])
def test_a_long_run_read_by_columns_has_the_page_of_its_records(
    book: Path, monkeypatch: pytest.MonkeyPatch, sources: int
) -> None:
    run = make_run(book, "a", steps=20)
    with EventWriter(run, 2) as events:
        events.write("step", replace(make_step(21, math.nan), learning_rate=None, clipped=None))
    data = json.loads(run.data_json.read_text())
    run.data_json.write_text(json.dumps(data | {"sources": data["sources"] * sources}))
    page = build_run_page(run, book)
    curves = read_page_source(run, book).steps.curves
    monkeypatch.setattr("tunebook.book.events.LONG_BYTES", 1)
    read = read_page_source(run, book)
    assert read.events.steps == ()
    assert build_run_page(run, book) == page
    assert read.steps.curves.digest() == curves.digest()


def test_a_setting_that_was_taken_away_is_unset() -> None:
    assert setting_words({"train.epochs": None, "train.max_steps": 3}) == (
        "epochs unset, max_steps=3"
    )
