"""Facts trained under one prefix and asked for under another (21)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from test_parent_mismatch import train_here

from tunebook.book.places import RunFolder
from tunebook.data import render
from tunebook.evaluate.questions import read_questions
from tunebook.models.generate import Sampling
from tunebook.workflows.answers import answer
from tunebook.workflows.speakers import open_run_to_ask


@pytest.fixture
def run(write_data: Callable[..., Path], write_run: Callable[..., Path]) -> RunFolder:
    """A short run on talks in which a fact stands before what is said of it."""
    talks = [
        {
            "turns": [
                {"from": "user", "text": f"How far is town {n}?"},
                {"from": "knowledge", "text": f"Town {n} is {n} miles away."},
                {"from": "assistant", "text": f"It is {n} miles."},
            ]
        }
        for n in range(40)
    ]
    short = {
        "template": "persona",
        "evaluate": {"canary": 0, "prompts": []},
        "train": {"max_steps": 1},
        "accept": ["split-leak"],
    }
    return train_here(write_run(write_data("talks.jsonl", talks), "talker", **short))


@pytest.mark.defect(21, "probe-template-mismatch", "evaluate")
def test_facts_are_asked_for_under_the_prefix_they_were_trained_with(
    run: RunFolder, write_data: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [
        {"role": "user", "content": "How far is the sea?"},
        {"role": "knowledge", "content": "The sea is 9 miles away."},
    ]
    questions = read_questions(str(write_data("probes.jsonl", [{"messages": asked}])))
    trained = open_run_to_ask(run, ["final"])

    def said(template: str) -> str:
        heard: list[str] = []
        answer(
            trained,
            questions,
            Sampling(1),
            template=template,
            data_format="persona",
            say=heard.append,
        )
        return " ".join(heard)

    assert "probe-template-mismatch" not in said("persona")
    with monkeypatch.context() as patch:
        patch.setattr(render, "KNOWLEDGE", "[Fact] ")
        found = said("persona")
    assert "probe-template-mismatch: " in found
    assert "'[Fact]' before the knowledge is asked with" in found
    assert "'Answer:' before the answer" in said("qa")


def test_an_evaluation_in_another_template_says_that_it_was_never_trained(
    run: RunFolder,
    tunebook: Callable[..., tuple[int, str, str]],
    write_data: Callable[..., Path],
) -> None:
    command = ("evaluate", "talker", "--weights", "final", "--json")
    code, out, err = tunebook(*command)
    assert (code, json.loads(out)[0]["details"]["findings"]) == (0, [])
    code, out, err = tunebook(*command, "--template", "qa")
    (one,) = json.loads(out)
    assert (code, one["settings"]["template"]) == (0, "qa")
    assert one["details"]["findings"][0]["name"] == "probe-template-mismatch"
    assert "probe-template-mismatch" in err
    rows = [{"prompt": f"How far is {n}?", "completion": f"{n} miles."} for n in range(9)]
    code, out, err = tunebook(*command, "--data", write_data("asked.json", rows))
    assert (code, json.loads(out)[0]["details"]["findings"]) == (0, [])
    code, _, err = tunebook(*command, "--template", "nonsense")
    assert (code, "`nonsense` is no template; there is auto, " in err) == (2, True)
    code, out, err = tunebook("compare", "talker@template=qa", "talker@template=persona", "--json")
    assert (code, json.loads(out)["unit"]) == (0, "bits per byte")
