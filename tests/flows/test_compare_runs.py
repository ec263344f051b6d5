"""`tunebook compare RUN RUN`: which evaluations are compared, and which are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from made_runs import make_run
from tunebook.book.evaluations import open_log, write_result
from tunebook.book.places import RunFolder
from tunebook.cli.main import main
from tunebook.records import Evaluation

LOSS = {"examples": "e1", "template": "qa", "window": 128, "stride": 128, "tokenizer": "t1"}


def measure(
    run: RunFolder, values: list[float], kind: str = "loss", subject: str = "final", **changes: Any
) -> None:
    """Write an evaluation as a command does: a log with a line per item, and its sum."""
    named = {
        key: changes.pop(key)
        for key in ("hashes", "ids", "scored", "units", "tags")
        if key in changes
    }
    hashes = named.get("hashes", [f"h{i}" for i in range(len(values))])
    settings = {"weights": run.name, **(LOSS if kind == "loss" else {}), **changes}
    with open_log(run, kind, subject, settings) as log:
        log.add(
            [
                {
                    "item_id": named.get("ids", [f"q#{j}" for j in range(len(values))])[i],
                    "item_hash": hashes[i],
                    "value": value,
                    "n_units": named.get("units", 1),
                    "tags": [named["tags"][i % 2]] if "tags" in named else [],
                    "bytes": 10,
                    "scored_hash": named.get("scored", [f"s{i}" for i in range(len(values))])[i],
                }
                for i, value in enumerate(values)
            ]
        )
    found = Evaluation(kind, subject, "points", None, None, len(values), 0, "", settings, {})
    write_result(run, log.path, found)


@pytest.fixture
def pair(book: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[RunFolder, RunFolder]:
    monkeypatch.chdir(book)
    return make_run(book, "one"), make_run(book, "two", rank=8)


def draw(shift: float = 0.0, n: int = 60) -> list[float]:
    noise = np.random.default_rng(int(shift * 100)).normal(0, 0.05, n)
    return (np.random.default_rng(0).uniform(1, 3, n) + shift + noise).tolist()


def compared(capsys: pytest.CaptureFixture[str], *argv: str) -> Any:
    assert main(["compare", *argv, "--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main(["compare", *argv]) == 2
    return capsys.readouterr().err


def test_the_newest_evaluations_with_the_same_settings_are_compared(pair, capsys) -> None:
    one, two = pair
    measure(one, draw(), "judge", prompt="x")
    measure(two, draw(5), "judge", prompt="x")
    measure(two, draw(0), "judge", prompt="y")
    found = compared(capsys, "one", "two", "--by", "judge")
    assert (found["verdict"], found["kind"], found["n"]) == ("different", "judge", 60)
    assert found["difference"] == pytest.approx(-5, abs=0.1)
    assert found["margin"] == 3
    measure(one, draw(), "judge", prompt="y")
    assert compared(capsys, "one", "two", "--by", "judge")["verdict"] == "equivalent"
    found = compared(capsys, "one@prompt=x", "two@prompt=x", "--by", "judge")
    assert found["verdict"] == "different"


def test_scores_made_with_other_settings_are_refused_with_the_way_out(pair, capsys) -> None:
    one, two = pair
    assert "no loss of one/final was measured; `tunebook evaluate one` does it" in refused(
        capsys, "one", "two"
    )
    assert "`tunebook chess one` does it" in refused(capsys, "one", "two", "--by", "chess-games")
    measure(one, draw(), "judge", prompt="x")
    measure(two, draw(), "judge", prompt="y")
    assert "there is judge (--by judge)" in refused(capsys, "one", "two")
    said = refused(capsys, "one", "two", "--by", "judge")
    assert "(prompt: x and y); `tunebook judge two` with the settings of one" in said
    assert "one has no judge with prompt=z; there is x" in refused(
        capsys, "one@prompt=z", "two", "--by", "judge"
    )
    assert "name two or more runs" in refused(capsys, "one")


def test_answers_of_another_sampling_do_not_compare(pair, capsys) -> None:
    for run, temperature in zip(pair, (0.0, 0.8), strict=True):
        settings = {"weights": run.name, "sampling": {"temperature": temperature}}
        with open_log(run, "answers", "final", settings) as answers:
            pass
        measure(run, draw(), "judge", answers=answers.path.stem)
    said = refused(capsys, "one", "two", "--by", "judge")
    assert "answers.sampling.temperature: 0.0 and 0.8" in said


def test_losses_of_other_tokens_compare_by_byte_of_the_same_text(pair, capsys) -> None:
    one, two = pair
    measure(one, draw(), units=4)
    other = [f"other{i}" for i in range(60)]
    measure(two, draw(), tokenizer="t2", examples="e2", hashes=other, units=5)
    found = compared(capsys, "one", "two")
    assert (found["unit"], found["verdict"]) == ("bits per byte", "equivalent")
    assert found["scores"][0]["score"] == pytest.approx(np.mean(draw()) / np.log(2) / 10)
    assert any(note.startswith("tokenizer differs: one t1, two t2") for note in found["notes"])
    measure(two, draw(), tokenizer="t3", examples="e3", hashes=other, scored=other)
    assert "different-validation-set" in refused(capsys, "one", "two@tokenizer=t3")


def test_wordings_of_an_instruction_are_paired_by_id_where_that_is_asked(pair, capsys) -> None:
    one, _ = pair
    measure(one, draw(), "judge", questions="w1.jsonl")
    measure(one, draw(4), "judge", questions="w2.jsonl", hashes=[f"please{i}" for i in range(60)])
    names = ("one@questions=w1.jsonl", "one@questions=w2.jsonl", "--by", "judge")
    assert "`tunebook judge one --questions w1.jsonl` scores them alike" in refused(capsys, *names)
    found = compared(capsys, *names, "--across-wordings")
    assert (found["verdict"], found["n"]) == ("different", 60)


def test_runs_sorted_by_a_setting_are_compared_with_their_neighbours(
    book, capsys, monkeypatch
) -> None:
    monkeypatch.chdir(book)
    for name, rank, shift in (("c", 32, 0.0), ("a", 2, 0.5), ("b", 8, 0.2)):
        measure(make_run(book, name, rank=rank), draw(shift), tags=("near", "far"))
    found = compared(capsys, "c", "a", "b", "--sort", "lora.rank")
    assert [pair["subjects"] for pair in found["pairs"]] == [["a", "b"], ["b", "c"]]
    assert found["sorted_by"] == {"a": 2, "b": 8, "c": 32}
    assert found["chance_best"]["c"] == 1
    assert found["pairs"][0]["per_tag"].keys() == {"near", "far"}
    assert all(pair["p_adjusted"] >= pair["p"] for pair in found["pairs"])
    assert main(["compare", "c", "a", "b", "--sort", "lora.rank"]) == 0
    shown = capsys.readouterr().out
    assert "chance of being the best: c 100 %" in shown
    assert "corrected for 2 pairs" in shown
    assert "did you mean lora.rank?" in refused(capsys, "a", "b", "--sort", "rank")


def test_a_tag_without_a_pair_of_scores_is_left_out_and_named(pair, capsys) -> None:
    one, two = pair
    measure(one, draw(), tags=("x", "y"))
    theirs = [f"h{i}" if i % 2 else f"other{i}" for i in range(60)]
    measure(two, draw(0.5), tags=("z", "y"), hashes=theirs, examples="e2")
    assert "`tunebook compare one two --shared-only` compares on the shared" in refused(
        capsys, "one", "two"
    )
    assert main(["compare", "one", "two", "--shared-only", "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert (found["n"], found["per_tag"].keys(), found["chance_best"]) == (30, {"y"}, None)
    assert "note: x, z: no item with this tag has a score of both one and two" in err
    holes = [None if i % 2 == 0 else value for i, value in enumerate(draw())]
    measure(one, holes, "judge", tags=("x", "y"))
    measure(two, draw(), "judge", tags=("x", "y"))
    assert compared(capsys, "one", "two", "--by", "judge")["per_tag"].keys() == {"y"}


def test_rows_of_the_same_number_and_text_in_two_files_stay_two(pair, capsys) -> None:
    one, two = pair
    scored = ["same"] * 6
    for run, files, hashes in ((one, ("u", "v"), "ab"), (two, ("U", "V"), "cd")):
        names = [f"{file}#{row}" for file in files for row in range(3)]
        measure(run, draw(n=6), ids=names, scored=scored, hashes=[hashes[0]] * 6)
    found = compared(capsys, "one", "two", "--across-wordings")
    assert (found["n"], found["verdict"]) == (6, "equivalent")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("pairs", "`tunebook judge one --pairwise` does it"),
        ("chess-puzzles", "`tunebook chess one --puzzles FILE` does it"),
        ("chess-games", "`tunebook chess one` does it"),
        ("harness:arc", "`tunebook evaluate one --harness arc` does it"),
        ("chess-game", "no score is called chess-game (did you mean chess-games?); there is loss,"),
    ],
)
def test_the_way_out_is_a_command_that_exists(pair, capsys, kind: str, said: str) -> None:
    assert said in refused(capsys, "one", "two", "--by", kind)
