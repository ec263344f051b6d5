"""`tunebook probe` of a small run: what it leaves in the book, and that nothing is asked twice."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from test_methods import SHORT, start, train
from test_train_flow import tunebook

from tunebook.book.evaluations import EvaluationLog, read_results
from tunebook.book.places import RunFolder
from tunebook.errors import DataError, UsageError
from tunebook.evaluate.grid import cells_of
from tunebook.models.generate import Continuation, Sampling
from tunebook.pages.grids import grid_lines
from tunebook.workflows.grid import grid
from tunebook.workflows.probe import probe
from tunebook.workflows.probe_facts import probe_facts

FEW = {"sampling": Sampling(6, 1.0), "repeats": 2, "prompts": 4}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> RunFolder:
    from tunebook.book.places import create_book

    book = create_book(tmp_path_factory.mktemp("probed") / "book")
    run = start(book, "small", tiny_model, **SHORT, method="lora")
    train(run)
    probes = [
        {"prompt": f"{group} {word}", "reference": "red sun", "group": group}
        for group in ("out", "ladder")
        for word in ("star", "sea", "cat")
    ]
    (book / "probes.json").write_text(json.dumps(probes), encoding="utf-8")
    return run


def lines_of(run: RunFolder) -> list[str]:
    logs = sorted(run.evaluations.glob("*.jsonl"))
    return [line for log in logs for line in log.read_text(encoding="utf-8").splitlines()]


def test_a_probe_that_was_killed_goes_on_and_one_that_is_done_asks_nothing(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {**FEW, "path": str(run.book / "probes.json")}
    add, calls = EvaluationLog.add, list[int]()

    def killed_at_the_sixth(log: EvaluationLog, rows: Any) -> None:
        calls.append(len(rows))
        if len(calls) == 6:
            raise KeyboardInterrupt
        add(log, rows)

    with monkeypatch.context() as patched:
        patched.setattr(EvaluationLog, "add", killed_at_the_sixth)
        with pytest.raises(KeyboardInterrupt):
            probe("small", run.book, **asked)
    before = lines_of(run)
    [found] = probe("small", run.book, **asked)
    after = lines_of(run)
    assert set(before) < set(after)
    keys = [
        (path.name, row["item_id"], row["item_hash"], row["repeat"])
        for path in run.evaluations.glob("*.jsonl")
        for row in map(json.loads, path.read_text().splitlines()[1:])
    ]
    assert len(keys) == len(set(keys))

    monkeypatch.setattr("tunebook.workflows.speakers.build_model", None)  # nothing is loaded
    [again] = probe("small", run.book, **asked)
    assert lines_of(run) == after
    assert again.details == found.details


def test_a_probe_lands_on_the_page_in_json_and_at_the_terminal(run: RunFolder) -> None:
    few = ("--repeats", 2, "--prompts", 4, "--max-new-tokens", 6)
    done = tunebook(run.book, "probe", "small", "--probes", "probes.json", *few, "--json")
    assert done.returncode == 0, done.stderr
    [found] = json.loads(done.stdout)
    assert {"score", "interval", "n", "examples_hash", "missing"} <= found.keys()
    assert found["n"] == 4
    assert found["interval"][0] <= found["score"] <= found["interval"][1]
    assert found["details"]["prompts"] == {"in": 4, "near": 0, "out": 3, "ladder": 3}
    names = {(one["group"], one["name"]) for one in found["details"]["measures"]}
    assert {("out", "spill-over"), ("out", "KL(base || tuned)"), ("in", "consistency")} <= names
    assert read_results(run, "probe")[-1].subject == "final"
    page = run.notebook_md.read_text(encoding="utf-8")
    assert "## Probes" in page
    assert "3 prompts, a verdict takes 40" in page
    show = ("--show", "out star", "--show", "ladder sea")
    shown = tunebook(run.book, "probe", "small", "--probes", "probes.json", *few, *show)
    said = shown.stdout.splitlines()
    heads = [line for line in said if "% in the style of its domain" in line]
    assert [head.split(":")[0] for head in heads] == [
        *("out star, base", "out star, final", "ladder sea, base", "ladder sea, final"),
    ]
    [found] = [one for one in read_results(run, "probe") if one.details["shown"]]
    first = found.details["shown"][0]
    assert first["groups"] == ["out"]
    assert [len(each) for each in first["answers"].values()] == [2, 2]
    assert 0 <= first["in_style"]["final"] <= 1
    assert "kept: unknown, the base reads the general text no better" in shown.stdout  # random
    assert "spill-over (share): base" in shown.stdout


def test_prompts_of_no_group_and_a_probe_of_the_base_alone_are_refused(run: RunFolder) -> None:
    path = run.book / "groupless.json"
    path.write_text(json.dumps([{"prompt": "red"}]), encoding="utf-8")
    with pytest.raises(DataError, match="groups of a probe are in, near, out, ladder"):
        probe("small", run.book, path=str(path), **FEW)
    with pytest.raises(UsageError, match="against the base"):
        probe("small", run.book, weights=["base"], **FEW)
    with pytest.raises(UsageError, match="--show virus: no prompt of this probe says that"):
        probe("small", run.book, show=["virus"], **FEW)


def test_a_grid_compares_ways_of_sampling_and_asks_nothing_twice(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = ("--temperatures", "0,1", "--top-p", "1", "--prompts", 4, "--repeats", 2)
    done = tunebook(run.book, "grid", "small", *few, "--max-new-tokens", 16, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found["details"]["cells"]) == 4
    assert found["details"]["reference"]["temperature"] == 1
    assert found["n"] == 4
    assert "## Sampling grid of final" in run.notebook_md.read_text(encoding="utf-8")
    before = lines_of(run)
    monkeypatch.setattr("tunebook.workflows.speakers.build_model", None)  # nothing is loaded
    cells = cells_of([0.0, 1.0], [1.0], [1.0, 1.1], 16)
    again = grid("small", run.book, cells, prompts=4, repeats=2, by="looping")
    assert lines_of(run) == before
    shown = list(grid_lines(again))
    assert shown[0] == "looping of final, 4 prompts"
    assert shown[2].startswith("greedy")
    with pytest.raises(UsageError, match="cells are compared by short"):
        grid("small", run.book, cells, by="length")


def tower(number: int) -> dict[str, object]:
    talk = [
        ("system", "You keep a tower."),
        ("user", f"Tower {number}: how many steps?"),
        ("knowledge", f"It has {500 + number} steps."),
    ]
    messages = [{"role": role, "content": content} for role, content in talk]
    return {"id": f"t{number}", "messages": messages, "facts": [str(500 + number)]}


def test_facts_that_are_given_are_told_from_memory_and_nothing_is_asked_twice(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def echo(
        _loaded: Any, prompts: Sequence[Sequence[int]], *_others: object
    ) -> Iterator[tuple[int, Continuation]]:
        for number, ids in enumerate(prompts):
            cut = int(number == 3)  # a prompt there was no room for
            yield number, Continuation(tuple(ids), True, left_out=cut)

    path = run.book / "facts.jsonl"
    path.write_text("".join(json.dumps(tower(i)) + "\n" for i in range(60)), encoding="utf-8")
    with monkeypatch.context() as patched:
        patched.setattr("tunebook.workflows.answers.generate", echo)
        asked: dict[str, Any] = {"sampling": Sampling(8, 0.0), "repeats": 1}
        base, final = probe_facts("small", run.book, str(path), **asked)
    assert (base.score, base.n, base.missing) == (1.0, 60, 0)
    memory = dict[str, Any](base.details)["memory"]
    assert (memory["score"], memory["n"], memory["missing"]) == (0.0, 59, 1)
    assert final.comparison is not None
    assert (final.against, final.comparison.verdict) == ("memory", "different")
    assert dict[str, Any](final.details)["given_over"]["verdict"] == "equivalent"
    before = lines_of(run)

    few = ("--facts", path, "--temperature", 0, "--repeats", 1, "--max-new-tokens", 8)
    shown = tunebook(run.book, "probe", "small", *few)  # what the echo said is used again
    assert shown.returncode == 0, shown.stderr
    assert "final: says the fact when it is given 1.000 (0.940 to 1.000)" in shown.stdout
    assert "fact given, final - base: 0.000 (" in shown.stdout
    assert lines_of(run) == before
    assert "## Facts, stated or from memory" in run.notebook_md.read_text(encoding="utf-8")
