"""`tunebook verdicts RUN --against OTHER` on runs that were trained here: documents and seeds."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from made_runs import make_step, make_validation
from tunebook.book.events import EventWriter
from tunebook.book.places import RunFolder
from tunebook.cli.main import main
from tunebook.records import ExampleLoss

RESOLVED = """\
recipe:
  name: {name}
  model: tunebook/tiny
  method: full
  seed: {seed}
  train: {{learning_rate: {learning_rate}, weight_decay: {decay}, max_grad_norm: 1.0}}
environment:
  versions: {{tunebook: 0.1.0}}
"""


def finished(
    book: Path,
    name: str,
    *,
    shift: float = 0.0,
    seed: int = 0,
    lr: float = 5e-5,
    decay: float = 0.0,
) -> None:
    """A run whose held-out documents differ among themselves, and by `shift` from other runs'."""
    run = RunFolder(book, name)
    run.path.mkdir(parents=True)
    run.resolved_yaml.write_text(
        RESOLVED.format(name=name, seed=seed, learning_rate=lr, decay=decay)
    )
    draw, noise = random.Random(1), random.Random(name)
    losses = [draw.gauss(2.0, 0.5) + shift + noise.gauss(0, 0.02) for _ in range(60)]
    documents = tuple(ExampleLoss(f"d{i}", 10 * loss, 10) for i, loss in enumerate(losses))
    validation = make_validation(10, sum(losses) / len(losses))
    with EventWriter(run, 1) as events:
        events.write("facts", {"steps": 5975})
        events.write("step", make_step(1))
        events.write("validation", replace(validation, per_document=documents))
        events.write("state", {"state": "finished", "reason": None})


def against(
    capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[dict[str, object], list[str]]:
    capsys.readouterr()
    assert main(["verdicts", *arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    return found, [verdict["kind"] for verdict in found["verdicts"]]


@pytest.fixture
def here(book: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(book)
    return book


def test_a_shift_of_all_documents_is_different_however_unlike_they_are(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished(here, "a")
    finished(here, "b", shift=0.05, lr=1e-4)
    found, kinds = against(capsys, "b", "--against", "a")
    assert found["compared"]["val_loss"]["comparison"]["verdict"] == "different"  # type: ignore[index]
    assert kinds == []
    assert list(found["changed"]) == ["train.learning_rate"]  # type: ignore[call-overload]


def test_seeds_of_the_same_recipe_say_how_far_noise_goes(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, shift in enumerate((0.0, 0.3, -0.3)):
        finished(here, f"a{seed}", seed=seed, shift=shift)
    finished(here, "b", lr=4e-5, decay=0.1)
    found, kinds = against(capsys, "b", "--against", "a0")
    assert found["compared"]["val_loss"]["seed_degrees"] == 2  # type: ignore[index]
    assert kinds == ["cannot_explain", "noise_only"]  # decay is excluded, so one change is left
    assert "2.36 %" in found["verdicts"][0]["cause"]  # type: ignore[index]
    found, kinds = against(capsys, "b", "--against", "a0", "--suspect", "train.max_grad_norm")
    assert "it is 1.0 in both runs" in found["verdicts"][0]["cause"]  # type: ignore[index]


def test_what_cannot_be_asked_is_one_sentence(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished(here, "a")
    finished(here, "b", lr=1e-4)
    for arguments, said in (
        (("a", "--against", "a"), "not compared with itself"),
        (("a", "--against", "c"), "no run `c`"),
        (("a", "--against", "base"), "nothing is known of both a and its base"),
        (("a", "--against", "b", "--suspect", "train.lr"), "neither run has a setting train.lr"),
        (("a", "--suspect", "train.epochs"), "--suspect goes with --against"),
    ):
        assert main(["verdicts", *arguments]) == 2
        error = capsys.readouterr().err
        assert said in error, arguments
        assert error.count("\n") == 1
    assert main(["verdicts", "a", "--against", "b"]) == 0
    assert "changed     train.learning_rate 0.0001 -> 5e-05" in capsys.readouterr().out


def test_a_run_is_compared_with_its_base_on_the_documents_held_out(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished(here, "a")
    before = tuple(ExampleLoss(f"d{i}", 25 + i % 5, 10) for i in range(60))
    with EventWriter(RunFolder(here, "a"), 0) as events:
        events.write("validation", replace(make_validation(0, 2.7), per_document=before))
    found, kinds = against(capsys, "a", "--against", "base")
    assert found["compared"]["val_loss"]["comparison"]["verdict"] == "different"  # type: ignore[index]
    assert kinds == []
