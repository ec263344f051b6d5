"""The cause of a spike by experiment: three planted ones, each named by `tunebook replay`."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import pytest
from test_fork import train_here

from made_runs import make_run
from tunebook.book.events import EventWriter, read_events
from tunebook.book.places import RunFolder, create_book
from tunebook.book.replays import read_replays
from tunebook.cli.main import main
from tunebook.errors import RunEnded
from tunebook.workflows.fork import fork_run
from tunebook.workflows.train import load_recipe, start_run

WORDS = "red green blue cat dog bird sun moon rain snow".split()
BAD_STEP = 9
FORKED_AT = 12


def sayings(n: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    return [
        f"{rng.choice(WORDS)} {i}: {' '.join(rng.choices(WORDS, k=rng.randint(3, 6)))}"
        for i in range(n)
    ]


def new_run(book: Path, name: str, lines: list[str], train: dict[str, Any]) -> RunFolder:
    for file, rows in ((f"{name}.txt", lines), ("held.txt", sayings(20, seed=9))):
        (book / file).write_text("\n".join(rows) + "\n")
    values = {
        "name": name,
        "model": "tunebook/tiny",
        "data": [{"path": str(book / f"{name}.txt")}],
        "validation": {"path": str(book / "held.txt")},
        "accept": ["random-base"],
        "max_seq_len": 128,
        "train": {"effective_batch_size": 4, "schedule": "constant", **train},
        "evaluate": {"every": 100, "prompts": [], "canary": 8},
        "checkpoint": {"every": 5, "keep": 9},
    }
    path = book / f"{name}.yaml"
    path.write_text(json.dumps(values))
    return start_run(book, load_recipe(path, (), book))


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A book with a run whose learning rate goes far too high, as it warms up."""
    book = create_book(tmp_path_factory.mktemp("replays") / "book")
    warm = {"learning_rate": 2e-2, "warmup_steps": 20, "max_steps": 16}
    train_here(new_run(book, "peak", sayings(100, seed=1), warm))
    return book


def files_of(run: RunFolder) -> dict[str, str]:
    return {
        str(path.relative_to(run.path)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in run.path.rglob("*")
        # The page and its figure tell of the replay.
        if path.is_file() and path.suffix not in (".md", ".svg") and path.parent != run.evaluations
    }


def test_a_peak_too_high_is_named_and_the_run_is_not_touched(
    book: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(book)
    run = RunFolder(book, "peak")
    steps = read_events(run).steps
    canary = [step.canary_loss or 0.0 for step in steps]
    rises = [now - before for before, now in zip(canary, canary[1:], strict=False)]
    step = steps[1 + rises.index(max(rises))].step
    before = files_of(run)
    capsys.readouterr()
    assert main(["replay", "peak", "--step", str(step), "--steps-after", "4", "--json"]) == 0
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    assert found["verdict"]["kind"] == "peak_lr"
    assert found["verdict"]["confidence"] == "certain"
    assert found["difference"] == 0.0
    control, rows = found["trials"][:2]
    assert control["name"] == "control"
    assert (rows["name"], rows["removed"]) == ("other rows", False)
    assert "steps of" in shown.err
    assert files_of(run) == before
    [kept] = read_replays(run)
    assert kept.verdict.kind == "peak_lr"
    assert "## Replays" in run.notebook_md.read_text()


@pytest.fixture(scope="module")
def paused(book: Path) -> RunFolder:
    """A run with garbage in the rows of one step, clipped hard, that paused some steps later."""
    # Which rows a step takes follows from the seed and their number alone.
    [taken] = [s for s in read_events(RunFolder(book, "peak")).steps if s.step == BAD_STEP]
    lines, rng = sayings(100, seed=1), random.Random(1)
    for example in taken.examples:
        row = int(example.id.split("#")[1]) - 1
        lines[row] = f"{lines[row].split(':')[0]}: {''.join(rng.choices('QXZ#@%&~^|', k=40))}"
    steady = {"optimizer": "sgd", "learning_rate": 8.0, "max_grad_norm": 0.05, "max_steps": 18}
    run = new_run(book, "bad", lines, steady)
    with pytest.raises(RunEnded):
        train_here(run, stop_after=FORKED_AT)
    return run


def test_garbage_in_one_batch_is_named_with_its_rows(book: Path, paused: RunFolder) -> None:
    from tunebook.pages.replays import replay_lines
    from tunebook.workflows.replay import replay

    found = replay("bad", book, step=BAD_STEP, steps_after=4)
    assert found.verdict.kind == "bad_batch"
    [step] = [s for s in read_events(paused).steps if s.step == BAD_STEP]
    assert set(found.rows) == {example.id for example in step.examples}
    assert found.verdict.evidence["rows"] == found.rows
    assert found.difference == 0.0
    shown = list(replay_lines(found))
    assert all(any(line.startswith(f"  {row}  ") for line in shown) for row in found.rows)


def test_clipping_that_a_fork_took_away_is_named(book: Path, paused: RunFolder) -> None:
    from tunebook.workflows.replay import replay

    child, _ = fork_run(paused, "free", ["train.max_grad_norm=0"])
    train_here(child)
    found = replay("free", book, step=FORKED_AT + 1, steps_after=4)
    assert found.after_step == FORKED_AT
    assert found.verdict.kind == "clip_switch"
    assert found.verdict.changes == ("train.max_grad_norm=0.05",)
    assert found.difference == 0.0


def test_what_cannot_be_replayed_is_refused_in_one_sentence(
    book: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(book)

    def said(*arguments: str) -> str:
        capsys.readouterr()
        assert main(["replay", *arguments]) == 2
        return capsys.readouterr().err

    quiet = make_run(book, "quiet", steps=1)
    assert "run quiet has no spike among its verdicts; name a step with --step n" in said("quiet")
    assert "run quiet has no step 99: it recorded steps 1 to 1" in said("quiet", "--step", "99")
    with EventWriter(quiet, 2) as events:
        events.write("state", {"state": "running", "step": 10})
    monkeypatch.setattr("tunebook.book.liveness.is_alive", lambda _run: True)
    assert "run quiet is being trained" in said("quiet", "--step", "1")
    monkeypatch.undo()
    monkeypatch.chdir(book)
    (book / "peak.txt").write_text("other: rows\n")
    assert "cannot be repeated as it was" in said("peak", "--step", "4")
