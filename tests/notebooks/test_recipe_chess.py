"""Notebook 003: Mistral 7B on games of chess. Its twin runs from nothing to an answer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from recipe_files import planned, resolve
from tunebook.workflows.recipes import FULL, TWIN, answers_of, find_recipe, run_recipe

RECIPE = find_recipe("chess")
FILES = sorted(path for side in (TWIN, FULL) for path in (RECIPE.folder / side).glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_file_of_the_chess_recipe_is_valid(path: Path, book: Path) -> None:
    recipe = resolve(path, book)
    assert (recipe.lora.rank, recipe.lora.alpha) == (8, 16)
    if path.parent.name == FULL:
        assert recipe.method == "qlora"
        assert recipe.train.learning_rate == 2.5e-5


def test_mistral_fits_an_h100_and_its_adapter_is_as_large_as_the_notebook_says() -> None:
    found = planned(RECIPE.folder / FULL / "chess.yaml", "h100")
    assert found["parameters"]["total"] == 7241732096
    assert found["parameters"]["adapter"] == 21260288
    assert found["parameters"]["packed"] == 3752071168
    assert [check["name"] for check in found["checks"]] == ["weights-not-checked"]
    assert found["memory"]["resident_bytes"] < found["memory"]["device_bytes"]
    assert (found["tokens"], found["tokenizer"]) == (None, None)


def test_the_games_are_verified_and_the_spoilt_ones_are_dropped_by_reason(tmp_path: Path) -> None:
    from tunebook.workflows.data_chess import convert

    found = convert(
        str(RECIPE.folder / TWIN / "data/games.jsonl"), keep_going=True, pgn=tmp_path / "games.pgn"
    )
    assert (found.games_in, found.games) == (584, 560)
    assert found.dropped == {
        "illegal move": 12,
        "wrong result": 4,
        "unknown result": 4,
        "another variant": 4,
    }


@pytest.mark.slow
def test_the_chess_twin_runs_from_nothing_and_answers(tmp_path: Path) -> None:
    book = tmp_path / "chess"
    said: list[str] = []
    report = run_recipe("chess", book, say=said.append).read_text(encoding="utf-8")
    answers = answers_of(book)
    losses = {
        point["settings"]["data.0.sample"]: point["mean"] for point in answers["sizes"]["points"]
    }
    assert losses[100] > losses[400] > losses[1200]
    assert "560 games are left, every move of them legal" in report
    assert "12 dropped: illegal move" in report
    failures = answers["legal_3"]["details"]["failures"]
    assert ("None wrote a premature result" in report) == (not failures.get("premature_result"))
    assert "21,260,288" in report
    engine = shutil.which("stockfish") or Path("/usr/games/stockfish").exists()
    assert ("no Stockfish here" in report) == (not engine)
    rows = [json.loads(line) for line in (book / "tasks.jsonl").read_text().splitlines()]
    assert len({row["id"] for row in rows}) == len(rows)
    assert {row["task"] for row in rows} == {"result", "next_move", "masked_moves"}
