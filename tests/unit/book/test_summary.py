from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from made_runs import make_run, make_step
from tunebook.book.evaluations import write_result
from tunebook.book.events import EventWriter
from tunebook.book.places import RunFolder, create_book, find_book, find_book_of, open_run
from tunebook.book.step_totals import totals_of_records
from tunebook.book.summary import perplexity, summarize
from tunebook.errors import BookError
from tunebook.pages.run_page import build_run_page
from tunebook.records import Comparison, Diagnosis, Evaluation, Verdict
from tunebook.watch.non_finite import find_non_finite


def test_a_finished_run_is_one_line(book: Path) -> None:
    predict = ("val_loss < base_val_loss", "val_loss < 1", "no spike")
    run = make_run(book, "a", steps=20, loss=2.0, predict=predict)
    summary = summarize(run)
    assert summary.state == "finished"
    assert (summary.model, summary.stage, summary.method) == ("tunebook/tiny", "sft", "full")
    assert (summary.val_loss, summary.base_val_loss, summary.best_step) == (2.0, 3.0, 20)
    assert summary.perplexity == math.exp(2.0)
    assert summary.train_loss == pytest.approx((2.05 + 2.0) / 2)
    assert summary.seconds == pytest.approx(20 * 0.5 + 2 * 0.25)
    assert summary.outcome == "1 of 3 held, 1 unknown"
    assert summary.peak_memory_bytes == 1 << 20
    assert summary.tags == ("first-light",)
    assert summary.config["lora.rank"] == 16


def test_a_folder_with_only_a_run_file_is_a_new_run(book: Path) -> None:
    run = RunFolder(book, "n")
    run.path.mkdir()
    run.run_yaml.write_text("name: n\nmodel: run:a/best\ndata: [{path: /nowhere}]\n")
    summary = summarize(run)
    assert (summary.state, summary.parents) == ("new", ("a",))
    assert summary.val_loss is None
    run.run_yaml.write_text("{broken")
    assert summarize(run).model is None


def test_a_running_state_without_a_process_is_paused(book: Path) -> None:
    assert summarize(make_run(book, "a", state=None)).state == "paused"


def test_the_late_loss_weighs_tokens_and_takes_at_least_one_step() -> None:
    assert totals_of_records([]).late_loss is None
    assert totals_of_records([make_step(1, 3.0), make_step(2, 2.0)]).late_loss == 2.0
    steps = [make_step(i, 9.0) for i in range(1, 19)]
    steps += [make_step(19, 1.0, target_tokens=30), make_step(20, 2.0, target_tokens=10)]
    assert totals_of_records(steps).late_loss == pytest.approx(1.25)
    assert math.isnan(totals_of_records([make_step(1, math.nan)]).late_loss or 0.0)


def test_perplexity_overflows_to_infinity() -> None:
    assert perplexity(1000.0) == math.inf


def test_a_book_is_found_from_below_and_its_absence_is_said(tmp_path: Path) -> None:
    with pytest.raises(BookError, match="tunebook init mybook"):
        find_book(tmp_path)
    book = create_book(tmp_path / "b")
    (book / "runs" / "x" / "deep").mkdir(parents=True)
    assert find_book(book / "runs" / "x" / "deep") == book
    with pytest.raises(BookError, match="already is a book"):
        create_book(book)
    with pytest.raises(BookError, match="did you mean `x`"):
        open_run(book, "y x")
    with pytest.raises(BookError, match="cannot name a run"):
        RunFolder(book, "../x")


def test_non_finite_names_the_rows_or_says_that_no_row_is_to_blame(book: Path) -> None:
    good, bad = make_step(1), make_step(2, math.nan)
    assert find_non_finite([good]) is None
    verdict = find_non_finite([good, bad, make_step(3, math.inf)])
    assert verdict is not None
    assert (verdict.step, verdict.last_step) == (2, 3)
    assert verdict.evidence["last_finite_step"] == 1
    assert verdict.evidence["examples"] == ["sayings#2", "sayings#3"]
    run = make_run(book, "a")
    with EventWriter(run, 1) as events:
        events.write("verdict", verdict)
    assert summarize(run).verdicts == ("non_finite",)


def test_a_gradient_that_is_not_finite_lists_every_row_of_the_step() -> None:
    verdict = find_non_finite([replace(make_step(1), grad_norm=math.inf, applied=False)])
    assert verdict is not None
    assert verdict.evidence["examples"] == ["sayings#1"]
    assert verdict.evidence["last_finite_step"] is None
    assert "no single row" in verdict.cause


def test_a_run_whose_first_update_broke_its_weights_is_sent_to_no_checkpoint() -> None:
    broke = replace(make_step(2), update_ratio=math.nan)
    sound = find_non_finite([make_step(1), broke])
    assert sound is not None
    assert "last checkpoint before that step" in sound.next_action
    never = find_non_finite([replace(broke, step=1)])
    assert never is not None
    assert "checkpoint" not in never.next_action
    assert never.next_action.startswith("lower train.learning_rate")


def test_what_an_evaluation_says_is_in_the_table_too(book: Path) -> None:
    run = make_run(book, "run_1", state=None)
    quiet = Verdict("no_fault_found", None, None, "27 detectors looked", "likely", {}, "")
    with EventWriter(run, 1) as events:
        events.write("verdicts", Diagnosis(10, (quiet,), ("peak_lr",), {}, True))
    assert summarize(run).verdicts == ("no_fault_found",)
    worse = Comparison(
        "different", 0.5, (0.4, 0.6), 0.001, 60, None, 0.1, 0.01, 0, 0, 0.3, None, 60, "h"
    )
    done = Evaluation("loss", "final", "nats", 3.0, (2.9, 3.1), 60, 0, "h", {}, {}, "base", worse)
    run.evaluations.mkdir()
    write_result(run, run.evaluations / "loss-final-1.jsonl", done)
    assert summarize(run).verdicts == ("worse_than_base",)
    assert "worse_than_base" in build_run_page(run, book)


def test_a_run_file_that_is_named_from_elsewhere_belongs_to_the_book_around_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, other = create_book(tmp_path / "mine"), create_book(tmp_path / "other")
    (mine / "first.yaml").touch()
    monkeypatch.chdir(tmp_path)
    assert find_book_of("mine/first.yaml") == mine
    with pytest.raises(BookError, match="no book here"):
        find_book_of("first")
    # Whoever works in a book means that one, wherever the file lies.
    monkeypatch.chdir(other)
    assert find_book_of("../mine/first.yaml") == other
