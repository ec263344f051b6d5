"""A training set in parts from the command line: a chain of runs that can be broken anywhere."""

from __future__ import annotations

import json
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from test_train_flow import start, tunebook, wait_for_step, write_run

from tunebook.book.checkpoints import manifest_hash
from tunebook.book.events import read_events
from tunebook.book.places import RunFolder, create_book
from tunebook.book.releases import read_releases
from tunebook.recipe.load import read_resolved


@pytest.fixture
def book(tmp_path: Path) -> Path:
    return create_book(tmp_path / "book")


def write_big(book: Path, model: Path, epochs: int = 1, **changes: Any) -> Path:
    settings: dict[str, Any] = {
        "parts": 3,
        "release_parts": False,  # it costs seconds, and has tests of its own
        "train": {"max_steps": None, "epochs": epochs, "effective_batch_size": 4},
        "evaluate": {"every": "epoch", "canary": 0},
    }
    return write_run(book, "big", model, **{**settings, **changes})


def parts_of(book: Path, n: int = 3) -> list[RunFolder]:
    return [RunFolder(book, f"big-part-{k}") for k in range(1, n + 1)]


def data_of(run: RunFolder) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run.data_json.read_text(encoding="utf-8"))
    return found


def trained_ids(run: RunFolder) -> Counter[str]:
    return Counter(e.id for step in read_events(run).steps for e in step.examples)


def test_parts_are_a_chain_of_runs_over_disjoint_rows(book: Path, tiny_model: Path) -> None:
    path = write_big(book, tiny_model)
    done = tunebook(book, "train", path)
    assert done.returncode == 0, done.stderr
    one, two, three = parts_of(book)
    seen = [trained_ids(run) for run in (one, two, three)]
    account = data_of(one)["parts"]
    assert sum((Counter(s) for s in seen), Counter()).most_common(1)[0][1] == 1
    assert [len(s) for s in seen] == [s["examples"] for s in account["slices"]]
    assert sum(len(s) for s in seen) == account["whole"]["examples"] == account["whole"]["rows"]
    assert len({data_of(run)["validation_hash"] for run in (one, two, three)}) == 1

    table = json.loads(tunebook(book, "runs", "--json").stdout)
    assert {r["name"]: (r["state"], r["parents"]) for r in table} == {
        "big-part-1": ("finished", []),
        "big-part-2": ("finished", ["big-part-1"]),
        "big-part-3": ("finished", ["big-part-2"]),
    }
    recipe, environment = read_resolved(two.resolved_yaml.read_text(encoding="utf-8"))
    assert (recipe.part, recipe.parts) == (2, 3)
    assert environment["parent_weights"] == manifest_hash(one.final)
    # What a part starts from is what the part before ended with.
    ends, begins = read_events(one).validations[-1], read_events(two).validations[0]
    assert begins.loss == pytest.approx(ends.loss, rel=1e-6)

    again = tunebook(book, "train", path)
    assert again.returncode == 0
    assert "part 3 of 3: big-part-3 is finished" in again.stderr
    difference = json.loads(tunebook(book, "diff", "big-part-1", "big-part-2", "--json").stdout)
    assert difference["settings"]["part"] == [1, 2]


@pytest.mark.slow
def test_a_broken_chain_goes_on_where_it_was(book: Path, tiny_model: Path) -> None:
    path = write_big(book, tiny_model, epochs=20)
    process = start(book, "train", path)
    one, two, three = parts_of(book)
    wait_for_step(two, 3, process)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "`tunebook resume big-part-2` goes on" in error
    assert "goes on with this part and those after it" in error
    assert not three.exists()
    first = one.data_json.stat().st_mtime_ns
    done = tunebook(book, "train", path)
    assert done.returncode == 0, done.stderr
    assert "part 1 of 3: big-part-1 is finished" in done.stderr
    assert "part 2 of 3: big-part-2 goes on" in done.stderr
    assert one.data_json.stat().st_mtime_ns == first
    steps = [s.step for s in read_events(two, superseded=True).steps]
    assert steps == sorted(set(steps)), "no step was trained twice"
    assert read_events(three).last_state == "finished"


@pytest.mark.slow
def test_the_data_of_a_later_part_may_change_and_it_is_said(book: Path, tiny_model: Path) -> None:
    path = write_big(book, tiny_model, parts=2)
    assert tunebook(book, "train", path, "part=1", "name=big-part-1").returncode == 0
    rows = json.loads((book / "rows.json").read_text(encoding="utf-8"))
    rows += [{"instruction": f"New {i}", "input": "", "output": f"x {i}"} for i in range(20)]
    (book / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    values = json.loads(path.read_text(encoding="utf-8"))
    values["train"]["learning_rate"] = 5e-4
    path.write_text(json.dumps(values), encoding="utf-8")
    done = tunebook(book, "train", path)
    assert done.returncode == 0, done.stderr
    assert "changed since big-part-1: train.learning_rate: 0.001 -> 0.0005" in done.stderr
    one, two = parts_of(book, 2)
    (change, held_out) = data_of(two)["notes"][-2:]
    assert change.endswith("rows.json: changed since big-part-1, 60 rows then, 80 rows now")
    assert "do not compare" in held_out
    _, environment = read_resolved(two.resolved_yaml.read_text(encoding="utf-8"))
    assert environment["changed"] == {"train.learning_rate": [0.001, 0.0005]}
    shown = tunebook(book, "diff", "big-part-1", "big-part-2").stdout
    assert "rows.json: changed since big-part-1, 60 rows then, 80 rows now" in shown
    assert "train.learning_rate" in shown
    # The rows of the first part stay those of the first part.
    assert not trained_ids(one).keys() & trained_ids(two).keys()


@pytest.mark.slow
def test_an_adapter_is_trained_on_from_part_to_part(book: Path, tiny_gpt2: Path) -> None:
    path = write_big(book, tiny_gpt2, method="lora", parts=2, lora={"rank": 4})
    done = tunebook(book, "train", path)
    assert done.returncode == 0, done.stderr
    one, two = parts_of(book, 2)
    ends, begins = read_events(one).validations[-1], read_events(two).validations[0]
    assert begins.loss == pytest.approx(ends.loss, rel=1e-6)
    assert begins.loss != read_events(one).validations[0].loss
    assert (two.final / "adapter_config.json").exists()

    child = book / "other.yaml"
    child.write_text("{name: other, extends: big-part-2, lora: {rank: 8}}", encoding="utf-8")
    refused = tunebook(book, "train", child)
    assert refused.returncode == 2
    assert "its adapter keeps its form" in refused.stderr
    assert refused.stderr.strip().endswith("; say lora.rank=4")
    child.write_text("{name: other, extends: big-part-2, method: qlora}", encoding="utf-8")
    refused = tunebook(book, "train", child)
    assert refused.returncode == 2
    assert "only method lora" in refused.stderr
    assert "`tunebook release big-part-1 FOLDER --merged` writes" in refused.stderr


@pytest.mark.slow
def test_each_part_is_released_as_work_in_progress_and_a_failure_loses_no_chain(
    book: Path, tiny_model: Path
) -> None:
    path = write_big(book, tiny_model, parts=2, release_parts=True)
    (book / "releases").touch()  # a file where the folder should be
    done = tunebook(book, "train", path)
    assert done.returncode == 1
    assert "not released, the next part begins all the same: big-part-1: cannot" in done.stderr
    assert "all 2 parts are trained, and 2 of them not released" in done.stderr
    parts = parts_of(book, 2)
    assert [read_events(run).last_state for run in parts] == ["finished", "finished"]

    (book / "releases").unlink()
    # What a release leaves that is killed between its last two steps: a folder without a record.
    parts[0].release.mkdir(parents=True)
    (parts[0].release / "README.md").touch()
    done = tunebook(book, "train", path)
    assert done.returncode == 0, done.stderr
    for run, words in zip(parts, ("Work in progress: part 1 of 2", "the last one"), strict=True):
        assert words in (run.release / "README.md").read_text(encoding="utf-8")
        weights = run.release / "model.safetensors"
        assert weights.samefile(run.final / "model.safetensors"), "it takes no room twice"
        assert [each.to for each in read_releases(run)] == [f"releases/{run.name}"]
    assert "releasing" not in tunebook(book, "train", path).stderr


def test_parts_that_cannot_be_are_refused_in_a_sentence(book: Path, tiny_model: Path) -> None:
    path = write_big(book, tiny_model, parts=100)
    few = tunebook(book, "train", path)
    assert few.returncode == 2
    assert "examples are too few" in few.stderr
    assert "say fewer parts" in few.stderr
    lone = tunebook(book, "train", path, "parts=~", "part=2")
    assert lone.returncode == 2
    assert "`part: 2` needs `parts`" in lone.stderr


@pytest.mark.slow
def test_another_number_of_parts_is_refused_once_one_is_trained(
    book: Path, tiny_model: Path
) -> None:
    path = write_big(book, tiny_model, parts=2)
    assert tunebook(book, "train", path, "part=1", "name=big-part-1").returncode == 0
    other = tunebook(book, "train", path, "parts=3")
    assert other.returncode == 2
    assert "the slices would overlap" in other.stderr
    assert not RunFolder(book, "big-part-2").exists()
    assert tunebook(book, "train", path, "part=1", "name=big-part-2").returncode == 0
    stranger = tunebook(book, "train", path)
    assert stranger.returncode == 2
    assert "run big-part-2 is not part 2 of 2 on run:big-part-1" in stranger.stderr
