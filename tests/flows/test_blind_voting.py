"""`tunebook compare A B --blind`: votes without names, resumable, with the share won."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from made_runs import make_run
from tunebook.book.evaluations import open_log, read_log, read_results
from tunebook.book.places import RunFolder
from tunebook.cli.main import main

N = 24


@pytest.fixture
def pair(book: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[RunFolder, RunFolder]:
    """Two runs that answered the same questions, the first one always better; one answer is one."""
    monkeypatch.chdir(book)
    runs = make_run(book, "one"), make_run(book, "two")
    for run, said in zip(runs, ("good", "poor"), strict=True):
        with open_log(run, "answers", "final", {"weights": run.name, "template": "qa"}) as log:
            log.add(
                [
                    {
                        "item_id": f"q{i}",
                        "item_hash": "h",
                        "question": f"Question {i}?",
                        "text": f"{said} {i}" if i else "the same",
                    }
                    for i in range(N)
                ]
            )
    return runs


class Voter(io.StringIO):
    """Prefers a text, or a place, by what the terminal showed."""

    def __init__(self, capsys: pytest.CaptureFixture[str], prefers: str, most: int = N) -> None:
        super().__init__()
        self.capsys, self.prefers, self.left, self.shown = capsys, prefers, most, ""

    def readline(self, size: int = -1, /) -> str:
        said = self.capsys.readouterr().err
        self.shown += said
        self.left -= 1
        if self.left < 0:
            return ""
        if self.prefers in ("1", "2", "s"):
            return self.prefers
        return "1\n" if f"[1]\n{self.prefers}" in said else "2\n"


def vote(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], prefers: str, most: int = N
) -> tuple[dict, Voter]:
    voter = Voter(capsys, prefers, most)
    with monkeypatch.context() as patch:
        patch.setattr("sys.stdin", voter)
        assert main(["compare", "one", "two", "--blind", "--json"]) == 0
    return json.loads(capsys.readouterr().out), voter


def test_votes_go_on_where_they_were_left_and_never_show_a_name(pair, monkeypatch, capsys) -> None:
    found, voter = vote(monkeypatch, capsys, "good", most=5)
    assert (found["n"], found["details"]["waiting"]) == (6, N - 6)
    found, again = vote(monkeypatch, capsys, "good")
    seen = [i for i in range(N) if f"\ngood {i}\n" in voter.shown]
    assert len(seen) == 6  # five votes, and the one that was quit at
    assert sum(f"\ngood {i}\n" in again.shown for i in seen) == 1
    assert not {"one", "two"} & set((voter.shown + again.shown).split())
    assert (found["n"], found["kind"], found["details"]["waiting"]) == (N, "votes", 0)
    assert found["score"] == pytest.approx((N - 0.5) / N)  # equal answers are a tie
    assert found["comparison"]["verdict"] == "different"
    assert found["details"]["position_p"] > 0.05
    rows = read_log(pair[0].evaluations / found["log"])
    assert len(rows) == N
    assert {row["a_first"] for row in rows} == {True, False}
    assert [one.kind for one in read_results(pair[0])] == ["votes"]


def test_the_interval_of_a_few_votes_stays_between_0_and_1(pair, monkeypatch, capsys) -> None:
    found, _ = vote(monkeypatch, capsys, "good", most=3)
    low, high = found["interval"]
    assert 0 <= low < found["score"] < high == 1
    assert found["comparison"]["interval"] == pytest.approx([low - 0.5, high - 0.5])


def test_a_pair_under_several_ids_is_voted_on_once(pair, monkeypatch, capsys) -> None:
    for log in (log for run in pair for log in run.evaluations.glob("answers-*.jsonl")):
        lines = log.read_text().splitlines()
        again = [{**json.loads(line), "item_id": "again"} for line in lines[-1:]]
        log.write_text("\n".join([*lines, *map(json.dumps, again)]) + "\n")
    found, voter = vote(monkeypatch, capsys, "good")
    assert voter.shown.count(f"\ngood {N - 1}\n") == 1
    assert (found["n"], found["details"]["waiting"]) == (N, 0)
    assert vote(monkeypatch, capsys, "good")[1].shown == ""


def test_a_voter_of_places_is_found_out(pair, monkeypatch, capsys) -> None:
    found, _ = vote(monkeypatch, capsys, "1")
    assert found["details"]["position_p"] < 0.001
    assert found["comparison"]["verdict"] != "equivalent"


def test_what_is_skipped_is_no_score_and_not_shown_again(pair, monkeypatch, capsys) -> None:
    found, _ = vote(monkeypatch, capsys, "s")
    assert (found["n"], found["missing"], found["details"]["skipped"]) == (1, 0, N - 1)
    found, voter = vote(monkeypatch, capsys, "good")
    assert (found["n"], voter.shown) == (1, "")


def test_answers_that_are_not_there_are_asked_for(book, monkeypatch, capsys) -> None:
    monkeypatch.chdir(book)
    make_run(book, "one")
    make_run(book, "two")
    assert main(["compare", "one", "two", "--blind"]) == 2
    assert "`tunebook compare A B --blind --ask FILE`" in capsys.readouterr().err
