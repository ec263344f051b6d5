"""A trained run is scored and asked; nothing is asked twice, and nothing else is scored."""

from __future__ import annotations

import gc
import json
import math
import subprocess
import sys
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from test_train_flow import tunebook, write_run
from transformers import AutoModelForCausalLM

from tunebook.book.evaluations import open_log, read_log, read_results
from tunebook.book.events import read_events
from tunebook.book.places import RunFolder, create_book
from tunebook.data.prepare import prepare
from tunebook.errors import BookError, CheckpointError, ParentMismatch, UsageError
from tunebook.evaluate.questions import held_out_questions
from tunebook.models.generate import Sampling
from tunebook.models.tokenizer import load_tokenizer
from tunebook.recipe.tree import Recipe
from tunebook.statistics.compare import holm
from tunebook.step.score import score_examples
from tunebook.workflows import answers, speakers
from tunebook.workflows import evaluate as workflow
from tunebook.workflows.evaluate import evaluate
from tunebook.workflows.speakers import Trained, open_run_to_ask


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> RunFolder:
    """A short LoRA run."""
    book = create_book(tmp_path_factory.mktemp("evaluate") / "book")
    changes: dict[str, Any] = {
        "method": "lora",
        "train": {"max_steps": 6, "learning_rate": 0.02},
        "notebook": {"predict": []},
    }
    done = tunebook(book, "train", write_run(book, "one", tiny_model, **changes))
    assert done.returncode == 0, done.stderr
    return RunFolder(book, "one")


def test_scores_are_those_of_training_and_of_transformers(run: RunFolder, tiny_model: Path) -> None:
    base, final = evaluate(run.name, run.book)
    validations = read_events(run).validations
    assert base.score == pytest.approx(validations[0].loss, abs=1e-6)
    assert final.score == pytest.approx(validations[-1].loss, abs=1e-6)
    assert final.interval == pytest.approx(validations[-1].interval, abs=1e-6)
    assert final.examples_hash == validations[-1].examples_hash
    trained = open_run_to_ask(run, ["final"])
    held_out = prepare(trained.recipe, trained.codec, run.cache_dir, print).validation
    assert held_out is not None
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    model = PeftModel.from_pretrained(model, str(run.final)).eval()
    total, tokens = 0.0, 0
    for number in range(len(held_out)):
        example = held_out.example(number)
        ids = torch.tensor([example.ids])
        labels = torch.where(torch.tensor([example.target]), ids, -100)
        n = int((labels != -100).sum())
        with torch.no_grad():
            total += float(model(ids, labels=labels).loss) * n
        tokens += n
    perplexity: Any = final.details["perplexity"]
    assert perplexity["score"] == pytest.approx(math.exp(total / tokens), rel=1e-5)
    bits: Any = final.details["bits_per_byte"]
    n_bytes = sum(held_out.example(number).scored_bytes for number in range(len(held_out)))
    assert bits["score"] == pytest.approx(total / math.log(2) / n_bytes, rel=1e-5)
    assert final.comparison is not None
    assert final.comparison.difference == pytest.approx(final.score - base.score, abs=1e-9)


def test_several_weights_against_the_base_are_several_looks(run: RunFolder) -> None:
    weights = ["base", "best", "final"]
    compared = [one.comparison for one in evaluate(run.name, run.book, weights=weights)[1:]]
    ps = [one.p for one in compared if one is not None and one.p is not None]
    assert len(ps) == 2
    assert [one.p_adjusted for one in compared if one is not None] == holm(ps) != ps


def test_what_was_scored_is_not_scored_again(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = evaluate(run.name, run.book)

    def load(*_args: object) -> None:
        raise AssertionError("the model was loaded again")

    monkeypatch.setattr(speakers, "_load", load)
    again = evaluate(run.name, run.book)
    assert [one.score for one in again] == [one.score for one in first]


def test_an_evaluation_that_was_killed_goes_on_where_it_stopped(run: RunFolder) -> None:
    whole = evaluate(run.name, run.book)[1]
    log = run.evaluations / whole.log
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:4]) + lines[4][:20])  # torn in the middle of a line
    again = evaluate(run.name, run.book)[1]
    assert again.score == whole.score
    assert sorted(log.read_bytes().splitlines()) == sorted(line.strip() for line in lines)


def test_the_command_prints_intervals_and_the_page_shows_them(run: RunFolder) -> None:
    done = tunebook(run.book, "evaluate", run.name)
    assert done.returncode == 0, done.stderr
    assert "final - base:" in done.stdout
    assert "bits per byte" in done.stdout
    printed = json.loads(tunebook(run.book, "evaluate", run.name, "--json").stdout)
    assert {"score", "interval", "n", "examples_hash", "missing"} <= printed[0].keys()
    page = run.notebook_md.read_text(encoding="utf-8")
    assert "## Evaluations" in page
    assert read_results(run, "loss")[-1].log in page


def test_what_was_scored_is_named_and_a_row_too_long_is_counted(
    run: RunFolder, tmp_path: Path
) -> None:
    path = tmp_path / "more.json"
    rows = [{"instruction": f"Say {n}", "output": "red " * (2 + 300 * (n == 0))} for n in range(9)]
    path.write_text(json.dumps(rows), encoding="utf-8")
    said: list[str] = []
    found = evaluate(run.name, run.book, path=str(path), say=said.append)
    assert found[0].n == 8
    assert any("9 rows in, dropped 1 overlong" in line for line in said), said
    assert f"loss on {path}" in run.notebook_md.read_text(encoding="utf-8")
    printed = tunebook(run.book, "compare", "one", "one/base").stdout
    assert f"loss, nats per target token, on {path}" in printed


def test_another_file_is_read_as_text_where_it_holds_no_answers(
    run: RunFolder, tmp_path: Path
) -> None:
    path = tmp_path / "story.txt"
    path.write_text("the old sailor told the child a story\n" * 40, encoding="utf-8")
    base, _ = evaluate(run.name, run.book, path=str(path))
    assert base.n > 1
    rows = read_log(run.evaluations / base.log)
    assert sum(row["n_units"] for row in rows) == base.details["target_tokens"]
    # The first token of a window is not predicted; it is a byte here, or nothing but a mark.
    size, scored = path.stat().st_size, base.details["scored_bytes"]
    assert isinstance(scored, int)
    assert size - base.n <= scored < size


@pytest.mark.parametrize("verb", ["evaluate", "probe", "grid", "judge"])
def test_a_run_that_is_not_there_is_refused_before_torch_is_imported(
    run: RunFolder, verb: str
) -> None:
    judge = ["--base-url", "http://127.0.0.1:9", "--judge-model", "x"] if verb == "judge" else []
    code = (
        "import sys; from tunebook.cli.main import main; "
        f"print(main({[verb, 'onee', *judge]!r}), 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=run.book, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["2", "False"], done.stderr
    assert "did you mean `one`?" in done.stderr


def test_missing_and_damaged_weights_are_refused_before_anything_is_loaded(
    run: RunFolder, tiny_model: Path
) -> None:
    with pytest.raises(BookError, match="has no step-99 weights"):
        open_run_to_ask(run, ["step-99"])
    weights = run.final / "adapter_model.safetensors"
    good = weights.read_bytes()
    weights.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    try:
        with pytest.raises(CheckpointError, match="is damaged"):
            open_run_to_ask(run, ["final"])
    finally:
        weights.write_bytes(good)
    base = tiny_model / "model.safetensors"
    good = base.read_bytes()
    base.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    try:
        with pytest.raises(ParentMismatch):
            open_run_to_ask(run, ["final"])
    finally:
        base.write_bytes(good)


def test_base_and_tuned_answer_the_same_questions_with_the_same_seeds(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = open_run_to_ask(run, ["base", "final"])
    questions = _questions(trained)
    assert len({question.id for question in questions}) == len(questions) == 5
    hot = Sampling(6, temperature=1.0)

    def ask(n: int) -> dict[str, list[dict[str, Any]]]:
        logs = answers.answer(
            trained, questions[:n], hot, template="alpaca", data_format="alpaca", repeats=2
        )
        return {name: log.rows for name, log in logs.items()}

    few = ask(2)
    loads: list[object] = []
    whole = speakers._load
    monkeypatch.setattr(speakers, "_load", lambda *args: loads.append(args) or whole(*args))
    every = ask(5)
    assert len(loads) == 1  # base and adapter are one load
    for name in ("base", "final"):
        assert len(every[name]) == 10
        assert every[name][:4] == few[name]  # those answered before stay
        assert any(row["text"] for row in every[name])
    one, other = (row["text"] for row in every["final"][:2])
    assert one != other or every["final"][2]["text"] != every["final"][3]["text"]


def _questions(trained: Trained) -> list[Any]:
    prepared = prepare(trained.recipe, trained.codec, trained.run.cache_dir, print)
    held_out = prepared.validation
    assert held_out is not None
    questions = held_out_questions(trained.recipe, prepared, trained.codec, 5)
    ids = {held_out.example(number).id for number in range(len(held_out))}
    assert {question.id for question in questions} <= ids
    assert all(question.reference for question in questions)
    return questions


def test_the_first_weights_are_gone_before_the_next_are_loaded(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    load, there = speakers._load, list[weakref.ref[Any]]()

    def watched(*args: Any) -> Any:
        gc.collect()  # modules refer to each other
        assert not [one for one in there if one() is not None]
        speaker = load(*args)
        there.append(weakref.ref(speaker.loaded.causal))
        return speaker

    monkeypatch.setattr(speakers, "_load", watched)
    trained = open_run_to_ask(run, ["final", "best", "step-4"])
    asked: list[str] = []
    speakers.ask_each(
        trained,
        "touch",
        {},
        [("a", "b", 0)],
        lambda one, _log, _keys: asked.append(one.subject.name),
    )
    assert asked == ["final", "best", "step-4"]
    assert len(there) == 3


def test_weights_that_answer_nan_are_shown_and_compared_with_nothing(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflow, "score_examples", lambda *_args: _nan(scored(*_args)))
    scored = score_examples
    base, final = evaluate(run.name, run.book, path=str(run.book / "rows.json"))
    assert base.comparison is None
    assert final.comparison is None
    assert "is not finite" in str(final.details["not_compared"])
    again = read_results(run, "loss")[-1].score
    assert again is not None
    assert math.isnan(again)


def _nan(scored: list[Any]) -> list[Any]:
    return [replace(scored[0], loss_sum=math.nan), *scored[1:]]


def test_scoring_the_trained_weights_alone_keeps_what_they_were_compared_with(
    run: RunFolder,
) -> None:
    whole = evaluate(run.name, run.book)[1]
    [alone] = evaluate(run.name, run.book, weights=["final"])
    assert alone.comparison == whole.comparison
    with pytest.raises(UsageError, match="no weights are named"):
        evaluate(run.name, run.book, weights=[])


def test_an_answer_that_is_the_word_for_no_number_stays_a_word(run: RunFolder) -> None:
    line = {"item_id": "NaN", "item_hash": "h", "text": "Infinity", "value": math.nan}
    with open_log(run, "words", "final", {}) as log:
        log.add([line])
    with open_log(run, "words", "final", {}) as log:
        assert log.has("NaN", "h")
        [found] = log.rows
    assert found["text"] == "Infinity"
    assert math.isnan(found["value"])


def test_pieces_of_one_text_are_not_neighbours_and_stay_one_document(
    tmp_path: Path, tiny_model: Path
) -> None:
    for number in range(12):
        text = " ".join(f"{word} {number}" for word in ["rain fell on the roof"] * 60)
        (tmp_path / f"book-{number}.txt").write_text(text, encoding="utf-8")
    recipe = Recipe.model_validate(
        {
            "name": "books",
            "model": str(tiny_model),
            "stage": "cpt",
            "max_seq_len": 128,
            "data": [{"path": str(tmp_path), "document": "file"}],
            "validation": {"fraction": 0.5},
        }
    )
    codec = load_tokenizer(str(tiny_model))
    prepared = prepare(recipe, codec, tmp_path / "cache", lambda _: None)
    questions = held_out_questions(recipe, prepared, codec, 8)
    documents = [question.document for question in questions]
    assert len(set(documents)) > 1
    assert documents != sorted(documents, key=documents.index)
    assert len({question.id for question in questions}) == 8
