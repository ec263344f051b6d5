"""What a worker process raises arrives as it was raised."""

from __future__ import annotations

import pickle

import pytest

from tunebook.data.build import TokenSettings, Workers, build_source
from tunebook.data.chess.games import BadGame
from tunebook.errors import DataError, DefectError, LibraryFault, RunEnded, TunebookError
from tunebook.recipe.tree import Source

WITH_MORE = {
    BadGame: BadGame("no moves", "a.pgn, game 1: the game has no moves"),
    DefectError: DefectError("illegal-label", "Nf3 is no legal move", "leave it out"),
    LibraryFault: LibraryFault("it gave other tokens", "fast"),
    RunEnded: RunEnded("the run was stopped", 4),
}


def _all_errors(kind: type[TunebookError]) -> set[type[TunebookError]]:
    return {kind}.union(*(_all_errors(one) for one in kind.__subclasses__()))


def test_every_error_survives_the_way_from_a_worker_process():
    for kind in _all_errors(TunebookError):
        error = WITH_MORE[kind] if kind in WITH_MORE else kind("a sentence")
        back = pickle.loads(pickle.dumps(error))  # noqa: S301  our own classes by name
        assert type(back) is kind
        assert str(back) == str(error)
        assert vars(back) == vars(error)
        assert back.exit_code == error.exit_code


def test_an_illegal_move_in_a_worker_process_is_said_as_such(tmp_path, codec, monkeypatch):
    monkeypatch.setattr("tunebook.data.pieces.PIECE_BYTES", 200)
    path = tmp_path / "a.jsonl"
    path.write_text('{"Moves": "e2e4 e7e5"}\n' * 40 + '{"Moves": "e2e4 e2e4"}\n')
    settings = TokenSettings("sft", "auto", "response", 64, "split")
    with pytest.raises(DataError, match=r"line 41: ply 2, 'e2e4', is illegal for Black"):
        build_source(
            Source(path=str(path)), settings, codec, tmp_path, lambda text: None, workers=Workers(2)
        )
