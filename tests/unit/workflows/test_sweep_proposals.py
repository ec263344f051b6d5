"""What is tried next, without a run: results are made up by a formula."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pytest

from tunebook.book.sweeps import SweepFolder, SweepTrial, add_trial, read_trials
from tunebook.errors import BookError
from tunebook.recipe.sweep import Sweep
from tunebook.workflows.sweep_proposals import proposals_of

OVER = {
    "train.learning_rate": {"low": 1e-6, "high": 1e-1, "log": True},
    "lora.rank": {"low": 2, "high": 64},
    "lora.target_modules": ["all-linear", ["q_proj", "v_proj"]],
}


def sweep(search: str, **changes: Any) -> Sweep:
    values = {"name": "s", "run": "r", "search": search, "over": OVER, **changes}
    return Sweep.model_validate(values)


def folder(tmp_path: Path) -> SweepFolder:
    made = SweepFolder(tmp_path, "s")
    made.path.mkdir(parents=True, exist_ok=True)
    return made


def result(settings: dict[str, Any]) -> float:
    return (math.log10(settings["train.learning_rate"]) + 3) ** 2


def ask_many(search: str, where: SweepFolder, n: int) -> list[dict[str, Any]]:
    proposals = proposals_of(sweep(search), where, [])
    found = []
    for point in range(1, n + 1):
        settings, number = proposals.ask(point)
        proposals.tell(number, result(settings))
        found.append(settings)
    return found


def test_a_study_that_came_as_a_link_is_not_written_through(tmp_path: Path) -> None:
    where = folder(tmp_path / "book")
    elsewhere = tmp_path / "profile"
    where.study.symlink_to(elsewhere)
    with pytest.raises(BookError, match=r"sweeps/s/study\.log is a link to .*profile"):
        proposals_of(sweep("random"), where, [])
    assert not elsewhere.exists()


def test_a_study_that_is_a_pipe_makes_nobody_wait(tmp_path: Path) -> None:
    where = folder(tmp_path)
    os.mkfifo(where.study)
    with pytest.raises(BookError, match=r"sweeps/s/study\.log is a pipe"):
        proposals_of(sweep("random"), where, [])


@pytest.mark.parametrize("search", ["random", "tpe"])
def test_proposals_lie_in_their_ranges_and_repeat_with_their_seed(
    tmp_path: Path, search: str
) -> None:
    found = ask_many(search, folder(tmp_path / "a"), 12)
    assert found == ask_many(search, folder(tmp_path / "b"), 12)
    for settings in found:
        assert 1e-6 <= settings["train.learning_rate"] <= 1e-1
        assert settings["lora.rank"] in range(2, 65)
        assert settings["lora.target_modules"] in OVER["lora.target_modules"]
    assert len({str(settings) for settings in found}) == 12


def test_tpe_learns_where_random_does_not(tmp_path: Path) -> None:
    late = {
        search: [result(s) for s in ask_many(search, folder(tmp_path / search), 50)[25:]]
        for search in ("random", "tpe")
    }
    assert sum(late["tpe"]) < 0.6 * sum(late["random"])


def test_a_sweep_that_goes_on_draws_nothing_twice_and_forgets_what_was_never_begun(
    tmp_path: Path,
) -> None:
    where = folder(tmp_path)
    first = proposals_of(sweep("random"), where, [])
    settings, number = first.ask(1)
    add_trial(where, SweepTrial("s-001", 1, None, settings, number))
    first.ask(2)  # proposed, and the process died before it was written down
    begun = read_trials(where)
    again = proposals_of(sweep("random"), where, begun)
    second, second_number = again.ask(2)
    assert second != settings
    again.tell(number, 1.0)
    again.tell(number, 1.0)  # twice does no harm
    again.tell(second_number, None)
    again.tell(second_number, math.nan)


def test_a_torn_last_line_of_the_trials_is_written_over(tmp_path: Path) -> None:
    where = folder(tmp_path)
    one = SweepTrial("s-001", 1, None, {"lora.rank": 4})
    two = SweepTrial("s-002", 2, 7, {"lora.rank": 8})
    add_trial(where, one)
    with where.trials_jsonl.open("ab") as file:
        file.write(b'{"name": "s-0')
    assert read_trials(where) == [one]
    add_trial(where, two)
    assert read_trials(where) == [one, two]
    where.trials_jsonl.write_bytes(b"nonsense\n")
    with pytest.raises(BookError, match="this line is no trial"):
        read_trials(where)


def test_a_damaged_study_is_one_sentence_that_names_it(tmp_path: Path) -> None:
    where = folder(tmp_path)
    proposals = proposals_of(sweep("tpe"), where, [])
    settings, number = proposals.ask(1)
    begun = [SweepTrial("s-001", 1, None, settings, number)]
    whole = where.study.read_bytes()
    where.study.write_bytes(b"garbage\n" * 40)
    with pytest.raises(BookError, match=r"study\.log"):
        proposals_of(sweep("tpe"), where, begun)
    where.study.unlink()
    with pytest.raises(BookError, match="does not know of s-001"):
        proposals_of(sweep("tpe"), where, begun)
    where.study.write_bytes(whole)
    proposals_of(sweep("tpe"), where, begun).tell(number, 1.0)
