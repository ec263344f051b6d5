"""A card says what the book knows of these weights, and nothing that nobody stated or measured."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from made_chess import make_chess
from made_evaluations import make_evaluation
from made_runs import make_run
from tunebook.book.events import EventWriter
from tunebook.book.licences import Licence
from tunebook.book.places import RunFolder
from tunebook.book.releases import Gguf, Release, Verification
from tunebook.pages.card_results import own_evaluations
from tunebook.pages.model_card import Licences, write_card
from tunebook.pages.run_page import read_page_source
from tunebook.records import Diagnosis, Verdict
from tunebook.workflows.release_licences import find_licences

RELEASE = Release(
    run="run_2",
    weights="final",
    step=10,
    form="merged",
    to="out",
    precision="fp16",
    base="run_1",
    base_weights="c0ffee",
    files={},
    verification=Verification(16, 300, "held-out examples", 1e-5, 1e-6, 1e-3, 1e-3, "the same"),
    tunebook="0.1.0",
    released="2026-01-01T00:00:00Z",
    versions={"torch": "2.13.0"},
)

Write = Callable[..., str]


@pytest.fixture
def card(book: Path) -> Write:
    """Give a function that writes the card of run_2, which began with the best of run_1."""
    make_run(book, "run_1", loss=3.0, model="org/base@v1")
    make_run(
        book, "run_2", model="run:run_1/best", method="lora", predict=("val_loss < base_val_loss",)
    )

    def write(licences: Licences | None = None, **changes: object) -> str:
        source = read_page_source(RunFolder(book, "run_2"), book)
        return write_card(replace(RELEASE, **changes), source, licences)

    return write


def test_front_matter_is_the_hubs_own_and_holds_the_results(card: Write) -> None:
    licence = Licence("apache-2.0", "Apache-2.0", "README.md")
    text = card(Licences(base=licence))
    data = ModelCard(text).data
    assert data.license == "apache-2.0"
    assert data.base_model == "org/base"
    assert data.base_model_relation == "finetune"
    assert data.library_name == "transformers"
    by_type = {one.metric_type: one for one in data.eval_results or []}
    assert by_type["loss"].metric_value == 2.0
    assert by_type["loss"].metric_name == "held-out loss, 95 % interval 1.900 to 2.100, n 12"
    assert by_type["perplexity"].metric_value == pytest.approx(7.389056)
    assert by_type["loss"].dataset_name == "held-out rows of sayings.txt"
    # What is read and written again says the same.
    assert ModelCard(str(ModelCard(text))).data.to_dict() == data.to_dict()
    assert "License: Apache-2.0, by README.md of the base" in text


def test_what_no_file_states_is_unknown(card: Write) -> None:
    text = card()
    assert ModelCard(text).data.license == "unknown"
    assert "| not stated |" in text
    own = Licence(None, "“My terms”", "LICENSE")
    head = ModelCard(card(Licences(base=own))).data
    assert (head.license, head.license_name) == ("other", "My terms")


def test_every_run_in_the_weights_is_named_with_its_data(card: Write, book: Path) -> None:
    earlier = RunFolder(book, "run_1").data_json
    account = json.loads(earlier.read_text())
    account["sources"][0]["path"] = "hub:org/rows@v3:train"
    earlier.write_text(json.dumps(account))
    licences = {"hub:org/rows@v3:train": Licence("cc-by-4.0", "cc-by-4.0", "README.md")}
    text = card(Licences(data=licences))
    assert ModelCard(text).data.datasets == ["org/rows"]
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert any(line.startswith("| `run_1` | org/rows | cc-by-4.0 (README.md) |") for line in lines)
    assert any(line.startswith("| `run_2` | sayings.txt | not stated |") for line in lines)
    lineage = lines[lines.index("## Lineage") :]
    assert "| `run_2` | final | sft, lora | sayings.txt | 10 | 3.000 to 2.000 |" in lineage
    assert "| `run_1` | best | sft, full | org/rows | 10 | 4.000 to 3.000 |" in lineage
    assert "| `org/base@v1`, the base | | | | | |" in lineage
    assert "/data" not in text


def test_a_run_that_is_gone_is_said_to_be(card: Write, book: Path) -> None:
    run = RunFolder(book, "run_1")
    run.path.rename(book / "elsewhere")
    text = " ".join(card().split())
    assert "| `run_1` | best | not in the book any more |" in text
    assert ModelCard(card()).data.base_model is None


def test_what_was_asked_after_training_is_told_of_these_weights_alone(
    card: Write, book: Path
) -> None:
    run = RunFolder(book, "run_2")
    make_evaluation(run, [40, 60], "judge", "final", unit="points of 100", questions="/data/q.json")
    make_evaluation(run, [10, 10], "judge", "base", unit="points of 100", questions="/data/q.json")
    make_evaluation(run, [99, 99], "judge", "step-4", unit="points of 100", questions="q.json")
    make_evaluation(run, [1, 1], "grid", "final", unit="points of the reference cell")
    make_chess(run, 0.9, 812.0)
    text = card()
    flat = " ".join(text.split())
    assert "| judge on q.json (points of 100) | these weights | 50.000 |" in flat
    assert "| judge on q.json (points of 100) | base | 10.000 |" in flat
    assert "99.000" not in flat
    assert "reference cell" not in flat
    assert "/data" not in text
    assert "Elo of games, by policy" in text
    assert "Not measured: other tasks and languages, safety, bias." in text
    kinds = {one.metric_type for one in ModelCard(text).data.eval_results or []}
    assert {"judge", "chess-games"} <= kinds
    # Those of an earlier step have a loss of their own, which nobody measured.
    early = " ".join(card(weights="step-4", step=4).split())
    assert "| these weights | not measured |" in early
    assert "| judge on q.json (points of 100) | these weights | 99.000 |" in early
    assert "50.000" not in early


def test_verdicts_and_predictions_are_told(card: Write, book: Path) -> None:
    found = Verdict("overfitting", 6, 10, "the held-out loss rose", "likely", {}, "stop earlier")
    with EventWriter(RunFolder(book, "run_2"), 1) as events:
        looked = ("overfitting", "stagnation")
        events.write("verdicts", Diagnosis(10, (found,), looked, {}, final=True))
    text = card()
    assert "- **overfitting, steps 6 to 10 (likely)**: the held-out loss rose." in text
    assert "Looked for and not found: `stagnation`." in text
    assert "Predictions sealed before step 1: 1 of 1 held." in text
    assert "Trained with tunebook 0.1.0, torch 2.13.0." in text
    assert "Released with tunebook 0.1.0, torch 2.13.0." in text


def test_a_gguf_file_is_not_called_verified(card: Write) -> None:
    text = card(gguf=Gguf("run_2-f16.gguf", "f16", "convert_hf_to_gguf.py"))
    assert "`run_2-f16.gguf` holds the same weights as f16" in text
    assert "the GGUF file itself was not asked" in text


def test_licences_are_looked_for_beside_the_data_and_with_the_base(
    book: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    run = make_run(book, "run_1")
    place = tmp_path / "rows"
    place.mkdir()
    (place / "LICENSE").write_text("Terms of Use\n")
    account = json.loads(run.data_json.read_text())
    paths = (str(place / "a.json"), str(place / "*.json"), str(place), "hub:org/rows")
    account["sources"] = [{**account["sources"][0], "path": path} for path in paths]
    run.data_json.write_text(json.dumps(account))
    found = find_licences(read_page_source(run, book), "final")
    assert found.base is not None
    assert found.base.identifier == "apache-2.0"  # of tunebook/tiny, by its card
    said = {path: one and one.words for path, one in found.data.items()}
    assert said == {**dict.fromkeys(paths[:3], "“Terms of Use”"), "hub:org/rows": None}


def test_a_result_that_is_held_against_nothing_says_so_on_the_card(card: Write, book: Path) -> None:
    run = RunFolder(book, "run_2")
    make_evaluation(run, [40, 60], "judge", "final", unit="points of 100", questions="q.json")
    card()
    found = own_evaluations(RELEASE, read_page_source(run, book))
    assert [one.against for one in found] == [None]
