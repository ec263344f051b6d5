"""Notebook 000: v1 -> v2 -> v3 -> {v3.1, v3.2}, as five run files, trained and drawn as a tree."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tunebook.book.content import weights_hash
from tunebook.book.events import EventWriter
from tunebook.book.places import RunFolder
from tunebook.cli.main import main
from tunebook.recipe.load import read_resolved
from tunebook.workflows.lineage import book_lineage
from tunebook.workflows.train import load_recipe, start_run
from tunebook.workflows.training import run_to_end

TWIN = Path(__file__).resolve().parents[2] / "src/tunebook/embedded/recipes/cosmosage/twin"
FILES = ("v1", "v2", "v3", "v3.1", "v3.2")
SHORT = ("train.max_steps=2", "evaluate.canary=0", "evaluate.prompts=[]", "validation.sample=8")

TREE = """\
tunebook/tiny   base model
└─ v1           finished; weights of tunebook/tiny
   └─ v2        finished; weights of v1; extends v1 with stage=cpt, effective_batch_size=4, \
data=textbooks.jsonl
      └─ v3     finished; weights of v2; extends v2 with stage=sft, effective_batch_size=16, \
learning_rate=0.005, data=qa.jsonl
         ├─ v3.1  finished; weights of v2; extends v3 with learning_rate=0.0005
         └─ v3.2  finished; weights of v2; extends v3 with learning_rate=0.01
"""


def edges(found: str) -> set[tuple[str, str, str]]:
    return {(e["from"], e["to"], e["kind"]) for e in json.loads(found)["edges"]}


def test_five_run_files_become_the_tree_of_the_notebook(
    book: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(book)
    for name in FILES:
        file = TWIN / f"{name}.yaml"
        lines = file.read_text().split("notebook:")[0].splitlines()
        assert len([line for line in lines if not line.startswith("#")]) <= 8
        run = start_run(book, load_recipe(file, SHORT, book))
        with EventWriter(run, 1) as events:
            run_to_end(run, events, lambda: None, lambda: None)
    capsys.readouterr()
    assert main(["lineage"]) == 0
    drawn = capsys.readouterr().out
    # How well two steps train is not the point, nor how wide a column is.
    plain = re.sub(r" {2,}", " ", re.sub(r"; val_loss [\d.]+", "", drawn))
    assert plain == re.sub(r" {2,}", " ", TREE)
    folded = book_lineage(book).tree(width=60)
    assert max(map(len, folded)) <= 60
    assert sorted(" ".join(folded).replace("│", " ").split()) == sorted(
        drawn.replace("│", " ").split()
    )

    begun = {
        name: read_resolved(RunFolder(book, name).resolved_yaml.read_text())[1]["base_weights"]
        for name in FILES
    }
    assert begun["v2"] == weights_hash(RunFolder(book, "v1").final)
    assert begun["v3"] == begun["v3.1"] == begun["v3.2"] != begun["v2"]

    assert main(["lineage", "v2", "--json"]) == 0
    assert edges(capsys.readouterr().out) == {
        ("tunebook/tiny", "v1", "weights"),
        ("v1", "v2", "weights"),
        ("v1", "v2", "config"),
        ("v2", "v3", "weights"),
        ("v2", "v3", "config"),
        ("v2", "v3.1", "weights"),
        ("v3", "v3.1", "config"),
        ("v2", "v3.2", "weights"),
        ("v3", "v3.2", "config"),
    }
    assert main(["show", "v3.1", "--settings"]) == 0
    shown = dict(re.findall(r"^(\S+) .*  (\S.*)$", capsys.readouterr().out, re.MULTILINE))
    assert shown["train.learning_rate"] == "this file"
    assert shown["stage"] == "v3.yaml"
    assert shown["max_seq_len"] == "v1.yaml"
    assert shown["seed"] == "default"
