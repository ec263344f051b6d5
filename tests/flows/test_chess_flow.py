"""Chess from the command line: a tiny run asked for moves, killed in between, and its page."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("chess")
pgn = pytest.importorskip("chess.pgn")

from tunebook.book.places import create_book  # noqa: E402
from tunebook.cli.main import main  # noqa: E402

GAME = '[White "a"]\n[Black "b"]\n[Result "1-0"]\n\n1. e4 e5 2. {} Nc6 1-0\n\n'
QUICK = ("--set", "ladder_games=0", "--set", "positions=6")
PUZZLES = """PuzzleId,FEN,Moves,Rating
a,6k1/5ppp/8/8/8/8/1R3PPP/R5K1 b - - 0 1,g8h8 a1a8,650
b,6k1/5ppp/8/8/8/8/1R3PPP/R5K1 b - - 0 1,g8f8 b2b8,1450
"""


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A book with a run that took two steps on a dozen games."""
    book = create_book(tmp_path_factory.mktemp("chess") / "book")
    replies = "Nf3 Nc3 Bc4 Bb5 d4 d3 f4 Nh3 Na3 Qh5 Ke2 h3".split()
    (book / "games.pgn").write_text("".join(GAME.format(reply) for reply in replies))
    (book / "puzzles.csv").write_text(PUZZLES)
    values = {
        "name": "chess",
        "model": str(tiny_model),
        "stage": "cpt",
        "accept": ["random-base"],
        "data": [{"path": str(book / "games.pgn"), "chess": {"header": False}}],
        "max_seq_len": 256,
        "validation": {"fraction": 0.2},
        "train": {"max_steps": 2, "effective_batch_size": 2},
        "evaluate": {"canary": 0, "max_new_tokens": 4},
    }
    (book / "chess.yaml").write_text(json.dumps(values))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(book)
        assert main(["train", "chess.yaml"]) == 0
    return book


@pytest.fixture
def chess_json(
    book: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Any:
    monkeypatch.chdir(book)

    def ask(*args: str) -> dict[str, Any]:
        capsys.readouterr()
        assert main(["chess", "chess", "--json", *QUICK, *args]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return ask


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def test_an_untaught_run_is_asked_counted_and_compared_with_its_base(
    chess_json: Any, book: Path
) -> None:
    found = chess_json("--each", "4", "--puzzles", "puzzles.csv")
    by_kind = {(one["kind"], one["subject"]): one for one in found["evaluations"]}
    positions = by_kind["chess", "final"]
    assert (found["kind"], found["score"]) == ("chess", positions["score"])
    # The model has room for 256 tokens, and long games need more.
    assert positions["n"] + positions["missing"] == 24
    assert positions["missing"] > 0
    assert sum(positions["details"]["failures"].values()) >= positions["n"] * 0.9
    assert positions["comparison"]["n"] == positions["n"]
    games = by_kind["chess-games", "final"]
    assert games["score"] == 0
    assert games["details"]["elo"]["scale"] == "Elo above random"
    assert games["details"]["elo"]["interval"][0] is None
    assert by_kind["chess-puzzles", "base"]["details"]["random_legal"] > 0
    log = book / "runs" / "chess" / "evaluations" / games["log"]
    with open(log.with_suffix(".pgn"), encoding="utf-8") as file:
        headers = [game.headers for game in iter(lambda: pgn.read_game(file), None)]
    assert sorted(h["White"] == "chess" for h in headers) == [False, False, True, True]
    page = (book / "runs" / "chess" / "notebook.md").read_text()
    assert "chess (legal moves)" in page
    assert "- final, strict: Elo above random: below" in page


def test_what_was_killed_goes_on_without_asking_twice(chess_json: Any, book: Path) -> None:
    whole = chess_json("--each", "6", "--weights", "final")
    log = book / "runs" / "chess" / "evaluations" / whole["evaluations"][-1]["log"]
    rows = lines(log)
    assert len(rows) == 1 + 6
    log.write_text("\n".join(rows[:4]) + "\n" + rows[4][:20], encoding="utf-8")
    again = chess_json("--each", "6", "--weights", "final")
    assert lines(log)[:4] == rows[:4]
    assert sorted(lines(log)) == sorted(rows)
    assert again["evaluations"][-1]["details"] == whole["evaluations"][-1]["details"]


def test_a_run_held_to_legal_moves_makes_no_other(chess_json: Any, book: Path) -> None:
    asked = ("--each", "2", "--weights", "final", "--set", "max_plies=24")
    found = chess_json(*asked, "--policy", "constrained", "--policy", "retry")
    held, retried = found["evaluations"][1:]
    assert held["details"]["failures"] == {}
    assert held["details"]["legal"]["score"] == 1
    assert held["details"]["ends"] == {"too_long": 2}
    # Asked once, and three times more, in the first position of each game.
    assert sum(retried["details"]["failures"].values()) == 8


def test_two_headers_are_compared_on_the_same_positions(
    chess_json: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("--each", "0", "--weights", "final")
    chess_json(*asked)
    shown = chess_json(*asked, "--header", "Result")
    assert shown["settings"]["header"] == ["Result"]
    names = ("chess@header=false", 'chess@header=["Result"]')
    assert main(["compare", *names, "--by", "chess", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"] in ("equivalent", "cannot tell", "different")
    assert any(note.startswith("header differs") for note in found["notes"])


def test_a_template_is_refused_where_the_run_was_trained_on_text(
    book: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(book)
    assert main(["chess", "chess", "--each", "0", "--set", "template={moves}"]) == 2
    assert "which has no template" in capsys.readouterr().err


def test_castling_short_may_go_on_to_castling_long(tiny_model: Path) -> None:
    from tunebook.data.render import choose_renderer
    from tunebook.models.tokenizer import load_tokenizer
    from tunebook.workflows.chess_writer import _Spelling

    codec = load_tokenizer(str(tiny_model))
    loaded = SimpleNamespace(causal=SimpleNamespace(generation_config=None))
    speaker: Any = SimpleNamespace(codec=codec, loaded=loaded)
    spellings = {
        as_text: _Spelling(speaker, choose_renderer("auto", "pgn", codec, stage), as_text)
        for as_text, stage in ((True, "cpt"), (False, "sft"))
    }
    for spelling in spellings.values():
        allowed = spelling.only(["O-O", "O-O-O"])
        written: list[int] = []
        while codec.decode(written).strip() != "O-O":
            [token] = allowed(written)
            written.append(token)
        following = allowed(written)
        assert spelling.ends[0] in following
        assert "-" in {codec.decode([token]) for token in following}
        assert allowed([*written, spelling.ends[0]]) == spelling.ends
