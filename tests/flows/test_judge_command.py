"""`tunebook judge` on a small trained run, against a judge on this machine."""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from test_train_flow import tunebook, write_run

from judge_server import Act, JudgeServer, judge_server, says
from tunebook.book.places import RunFolder, create_book
from tunebook.cli.main import main
from tunebook.evaluate.judge.asking import Task
from tunebook.evaluate.judge.prompts import find_prompt
from tunebook.evaluate.judge.settings import Judge
from tunebook.workflows import judge_anchor
from tunebook.workflows.judge_anchor import check_anchor, era_of
from tunebook.workflows.judging import Bench

N = 60


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A book with one run of two steps, and a file of questions."""
    book = create_book(tmp_path_factory.mktemp("judged") / "book")
    # These models repeat the last character of a prompt: a template would make it a newline.
    quick: dict[str, object] = {"template": "none"}
    quick |= {"train": {"max_steps": 2}, "evaluate": {"every": 2, "max_new_tokens": 2}}
    done = tunebook(book, "train", write_run(book, "run_1", tiny_model, **quick))
    assert done.returncode == 0, done.stderr
    rows = [
        {"prompt": f"Say item-{i}", "reference": "yes", "tags": ["even"] if i % 2 == 0 else []}
        for i in range(N)
    ]
    (book / "questions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return book


@pytest.fixture
def in_book(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(trained)
    return trained


def arguments(server: JudgeServer, *more: str) -> list[str]:
    named = ["--base-url", server.base_url, "--judge-model", "m", "--max-new-tokens", "6"]
    return ["judge", "run_1", "--questions", "questions.jsonl", "--n", str(N), *named, *more]


def test_a_run_is_judged_against_its_base_once_and_the_key_is_nowhere(
    in_book: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THE_KEY", "sk-secret-0815")

    def behave(prompt: str, nth: int) -> Act:
        return says(f'{{"reason": "sk-secret-0815", "score": {40 + 2 * (nth % 2)}}}')

    with judge_server(behave) as server:
        more = ["--key-env", "THE_KEY", "--repeats", "2", "--json"]
        assert main(arguments(server, *more)) == 0
        found = json.loads(capsys.readouterr().out)
        n_asked = len(server.requests)
        assert main(arguments(server, *more)) == 0
        assert json.loads(capsys.readouterr().out)["score"] == found["score"]
        assert len(server.requests) == n_asked
    assert (found["subject"], found["against"], found["n"], found["missing"]) == (
        "final",
        "base",
        N,
        0,
    )
    assert [one["subject"] for one in found["evaluations"]] == ["base", "final"]
    assert found["interval"][0] <= found["score"] <= found["interval"][1]
    assert found["comparison"]["verdict"] == "equivalent"
    assert found["details"]["per_tag"]["even"]["n"] == N / 2
    assert found["details"]["noise"]["judge_sd"] == pytest.approx(2**0.5)
    asked = sum(one["details"]["asked"] for one in found["evaluations"])
    assert asked == n_asked > N  # answers without text are not asked about
    assert {one["score"] for one in found["evaluations"]} == {41}
    written = [path for path in in_book.rglob("*") if path.is_file()]
    assert not any(b"sk-secret-0815" in path.read_bytes() for path in written)
    page = (in_book / "runs" / "run_1" / "notebook.md").read_text()
    assert "judge on questions.jsonl (points of 100, m, prompt default)" in page
    assert main(["runs", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["judge"] == found["score"]


def test_too_many_missing_scores_give_bounds_in_place_of_a_verdict(
    in_book: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def behave(prompt: str, nth: int) -> Act:
        return (
            says("I would rather not.")
            if "item-7`" in prompt or "item-8`" in prompt
            else says("80")
        )

    with judge_server(behave) as server:
        assert main(arguments(server, "--prompt", "notebook-002")) == 0
    shown = capsys.readouterr().out
    assert "cannot tell: 3.3% of the scores are missing, more than 2%" in shown
    assert "2 no score; the mean is 77.333 to 80.667, whatever they would have been" in shown
    assert "faults     final: 8 no score" in shown


def test_pairs_are_shown_in_both_orders_and_a_judge_that_prefers_a_place_is_found_out(
    in_book: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with judge_server(lambda prompt, nth: says('{"better": "A"}')) as server:
        assert main(arguments(server, "--pairwise", "--json")) == 0
        found = json.loads(capsys.readouterr().out)
        shown = Counter(prompt.partition("ANSWER A")[0] for prompt in server.counts)
    # A fence differs with the order, so no two prompts are alike; each pair comes twice.
    assert len(shown) % 2 == 0
    won = found["details"]["win_rate"]
    assert (won["level"], found["score"], found["comparison"]) == ("refuse", None, None)
    assert won["first_rate"] > 0.5
    with judge_server(lambda prompt, nth: says(longer(prompt))) as server:
        assert main(arguments(server, "--pairwise", "--against", "run_1")) == 0
    out = capsys.readouterr().out
    assert re.search(r"^won +0\.500 \(.*\) of 60 against run_1: equivalent$", out, re.MULTILINE)
    assert main(arguments(server, "--against", "run_1")) == 2


def test_two_templates_of_a_run_are_held_against_each_other(
    in_book: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with judge_server(lambda prompt, nth: says("50")) as server:
        few = ("--n", "6", "--json")
        assert main(arguments(server, *few)) == 0
        assert main(arguments(server, *few, "--template", "qa")) == 0
        assert "probe-template-mismatch" in capsys.readouterr().err
        assert main(arguments(server, *few, "--template", "qs")) == 2
    names = ("run_1@template=none", "run_1@template=qa")
    assert main(["compare", *names, "--by", "judge", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["verdict"], found["n"], found["margin"]) == ("equivalent", 6, 3)
    assert any(note.startswith("template differs") for note in found["notes"])


def test_the_weights_that_were_named_are_those_in_the_pairs(
    in_book: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with judge_server(lambda prompt, nth: says(longer(prompt))) as server:
        few = arguments(server, "--pairwise", "--json", "--n", "6")
        assert main([*few, "--weights", "base,best", "--against", "run_1"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["subject"], found["against"], found["n"]) == ("best", "run_1", 6)
        assert found["details"]["win_rate"]["a"] == "run_1/best"
        assert main([*few, "--weights", "best,final"]) == 2
    assert "--weights is 'best,final'; give one" in capsys.readouterr().err


def longer(prompt: str) -> str:
    """Prefer the longer answer, wherever it stands."""
    fields = re.findall(r"^ANSWER [AB] (\w+)\n(.*?)\n\1 END", prompt, re.MULTILINE | re.DOTALL)
    a, b = (len(text) for _, text in fields)
    return json.dumps({"better": "tie" if a == b else "A" if a > b else "B"})


def test_a_judge_that_moved_begins_a_new_era(book: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, shift = RunFolder(book, "run_1"), 0
    run.path.mkdir()
    monkeypatch.setattr(judge_anchor, "_SESSION", timedelta(0))
    tasks = [Task("final", f"q{i}", "h", "Why?", None, f"item-{i}") for i in range(40)]

    def behave(prompt: str, nth: int) -> Act:
        noise = int(sha256(f"{prompt}{nth}".encode()).hexdigest(), 16) % 5
        return says(str(50 + shift + noise))

    with judge_server(behave) as server:
        bench = Bench(Judge(base_url=server.base_url, model="m"), find_prompt("default"))
        first = check_anchor(run, bench, tasks, print)
        again = check_anchor(run, bench, [], print)
        shift = 20
        moved = check_anchor(run, bench, [], print)
        assert set(server.counts.values()) == {3}
    assert (first.n, first.comparison, first.era, first.moved) == (30, None, 0, False)
    assert (again.era, again.moved) == (0, False)
    assert (moved.era, moved.moved) == (1, True)
    assert moved.comparison is not None
    assert moved.comparison.difference == pytest.approx(20, abs=2)
    assert era_of(run, bench) == 1


def test_scores_made_elsewhere_need_neither_book_nor_judge(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scores.json").write_text("[70, 100, null, 85, 90]")
    assert main(["judge", "--scores", "scores.json", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["score"], found["n"], found["missing"]) == (86.25, 4, 1)
    assert found["interval"][0] < 86.25 < found["interval"][1]
    assert main(["judge"]) == 2
    assert "name a run to judge" in capsys.readouterr().err


def test_a_judge_scores_every_cell_of_a_grid_once(
    in_book: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["--temperatures", "0,1.0", "--top-p", "1.0", "--repetition-penalty", "1.0"]
    few += ["--prompts", "8", "--repeats", "2", "--max-new-tokens", "6", "--by", "judge", "--json"]
    with judge_server(lambda prompt, nth: says(f'{{"score": {30 + nth % 40}}}')) as server:
        judge = in_book / "judge.yaml"
        judge.write_text(f"base_url: {server.base_url}\nmodel: m\n", encoding="utf-8")
        assert main(["grid", "run_1", *few, "--judge", str(judge)]) == 0
        found = json.loads(capsys.readouterr().out)
        n_asked = len(server.requests)
        assert 8 <= n_asked <= 8 + 16
        assert main(["grid", "run_1", *few, "--judge", str(judge)]) == 0
        assert json.loads(capsys.readouterr().out)["details"] == found["details"]
        assert len(server.requests) == n_asked
    for cell in found["details"]["cells"]:
        assert 30 <= cell["numbers"]["judge"]["score"] < 70
        assert cell["numbers"]["judge"]["n"] == 8
    assert main(["grid", "run_1", *few]) == 2
    assert "with --judge FILE, judge" in capsys.readouterr().err


def test_a_call_tells_what_it_asked_itself_and_what_was_known_from_before(
    in_book: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    more = ["--judge-model", "other", "--key-env", "THE_KEY"]
    monkeypatch.setenv("THE_KEY", "sk-right-0815")
    with judge_server(lambda prompt, nth: says('{"score": 70}')) as server:
        assert main(arguments(server, *more)) == 0
        shown = capsys.readouterr().out
        n_asked = len(server.requests)
        monkeypatch.setenv("THE_KEY", "sk-wrong-0815")
        assert main(arguments(server, *more)) == 0
        again = capsys.readouterr().out
        assert main(arguments(server, *more, "--json")) == 0
        found = json.loads(capsys.readouterr().out)["evaluations"]
        assert len(server.requests) == n_asked
    first, second = accounts_of(shown), accounts_of(again)
    assert sum(one["requests"] for one in first.values()) == n_asked > 0
    assert sum(one["sent"] for one in first.values()) == 100 * n_asked
    for name, one in second.items():
        assert (one["asked"], one["requests"], one["sent"], one["received"]) == (0, 0, 0, 0)
        assert one["known"] == first[name]["asked"] + first[name]["known"] > 0
    assert "cost 0.0000" in again
    # What the scores cost stays with them, and so does what this call asked.
    assert sum(one["details"]["requests"] for one in found) == n_asked
    assert {one["details"]["this_call"]["requests"] for one in found} == {0}


def accounts_of(shown: str) -> dict[str, dict[str, int]]:
    """Read the counts of each `asked` line by its subject."""
    line = re.compile(
        r"^asked +(\w+): ([\d,]+) questions in ([\d,]+) requests, ([\d,]+) known from before; "
        r"tokens ([\d,]+) in, ([\d,]+) out; ",
        re.MULTILINE,
    )
    names = ("asked", "requests", "known", "sent", "received")
    return {
        name: dict(zip(names, (int(n.replace(",", "")) for n in counts), strict=True))
        for name, *counts in line.findall(shown)
    }
