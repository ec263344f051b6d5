"""Files of sweeps and judges that are broken: one sentence, or a line that is passed over."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from made_runs import make_run
from tunebook.book.judging import ScoreCache, read_anchor_sessions
from tunebook.book.places import RunFolder
from tunebook.book.sweeps import SweepFolder, read_trials
from tunebook.errors import BookError, RunFileError
from tunebook.recipe.sweep import load_sweep
from tunebook.workflows.sweep_checks import check_points, refuse_other, run_of
from tunebook.workflows.train import origin_of


@pytest.mark.parametrize("broken", [b"{", b"\xff{}", b"[]", b"null", b"[" * 100_000])
def test_what_a_sweep_began_with_is_named_where_it_is_broken(book: Path, broken: bytes) -> None:
    (book / "rows.json").write_text('[{"question": "a?", "answer": "b"}]')
    (book / "base.yaml").write_text("name: base\nmodel: tunebook/tiny\ndata: [{path: rows.json}]\n")
    path = book / "rates.yaml"
    path.write_text("name: rates\nrun: base.yaml\nover: {seed: [1, 2]}\n")
    folder = SweepFolder(book, "rates")
    folder.path.mkdir(parents=True)
    folder.sweep_yaml.write_bytes(path.read_bytes())
    folder.base_json.write_bytes(broken)
    found, _ = load_sweep(path)
    base = check_points(found, run_of(found, path), book)
    with pytest.raises(BookError, match=r"base\.json is damaged"):
        refuse_other(folder, found, base)


@pytest.mark.parametrize(
    "changes", [{"name": 3}, {"name": "../x"}, {"settings": [1]}, {"point": "1"}, {"more": 1}]
)
def test_a_line_that_is_no_trial_is_named(book: Path, changes: dict[str, object]) -> None:
    folder = SweepFolder(book, "rates")
    folder.path.mkdir(parents=True)
    whole = {"name": "rates-001", "point": 1, "seed": None, "settings": {"seed": 1}}
    lines = [json.dumps(whole), json.dumps({**whole, **changes})]
    folder.trials_jsonl.write_text("\n".join(lines) + "\n")
    with pytest.raises(BookError, match=r"trials\.jsonl:2: this line is no trial"):
        read_trials(folder)


def test_lines_of_a_judge_that_lack_their_key_are_passed_over(book: Path) -> None:
    run = RunFolder(book, "first")
    run.judge_cache.mkdir(parents=True)
    (run.judge_cache / "j.jsonl").write_text(
        '{"score": 1}\n{"key": [1]}\n{"key": "a", "score": 2}\n'
    )
    assert ScoreCache(run, "j").get("a") == {"key": "a", "score": 2}
    run.judge_anchor.mkdir()
    (run.judge_anchor / "sessions.jsonl").write_text('{"mean": 1}\n{"judge": "j", "mean": 2}\n')
    assert read_anchor_sessions(run, "j") == [{"judge": "j", "mean": 2}]


def test_settings_of_a_run_that_are_no_text_are_named(book: Path) -> None:
    run = make_run(book, "first")
    run.resolved_yaml.write_bytes(b"recipe:\n  name: \x9d\n")
    with pytest.raises(RunFileError, match=r"resolved\.yaml:2: byte 0x9d is not UTF-8"):
        origin_of(run)
