"""`tunebook evaluate RUN --harness TASK`: a local task, without a network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from test_train_flow import tunebook, write_run
from transformers import AutoModelForCausalLM, AutoTokenizer

from tunebook.book.evaluations import read_log
from tunebook.book.places import RunFolder, create_book

TASK = """\
task: sums
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{q}}}} ="
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{answer}}}}"
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
"""


@pytest.mark.slow
def test_a_task_of_the_harness_scores_each_question_as_transformers_does(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    book = create_book(tmp_path / "book")
    changes: dict[str, Any] = {"train": {"max_steps": 2}, "notebook": {"predict": []}}
    done = tunebook(book, "train", write_run(book, "one", tiny_model, **changes))
    assert done.returncode == 0, done.stderr
    docs = [{"q": f"{i} + 1", "choices": [str(i + 1), str(i + 3)], "answer": 0} for i in range(12)]
    (tmp_path / "sums.json").write_text(json.dumps(docs))
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    (tasks / "sums.yaml").write_text(TASK.format(data=tmp_path / "sums.json"))
    command = ("evaluate", "one", "--harness", "sums", "--include-path", str(tasks), "--json")
    done = tunebook(book, *command)
    assert done.returncode == 0, done.stderr
    base, final = json.loads(done.stdout)
    assert (final["kind"], final["unit"], final["n"]) == ("harness:sums", "acc", 12)
    assert (base["subject"], final["against"], final["comparison"]["n"]) == ("base", "base", 12)
    run = RunFolder(book, "one")
    rows = read_log(run.evaluations / final["log"])
    assert [row["value"] for row in rows] == right_answers(run.final, docs)

    compared = tunebook(book, "compare", "one", "one/base", "--by", "harness:sums", "--json")
    assert json.loads(compared.stdout)["n"] == 12
    done = tunebook(book, "evaluate", "one", "--harness", "none", "--include-path", str(tasks))
    assert done.returncode == 2
    assert "the harness has no task none; there is sums" in done.stderr


def right_answers(folder: Path, docs: list[dict[str, Any]]) -> list[float]:
    """Tell for each question whether the right choice is the likelier one."""
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def likelihood(question: str, choice: str) -> float:
        asked = tokenizer(f"{question} =")["input_ids"]
        ids = torch.tensor([tokenizer(f"{question} = {choice}")["input_ids"]])
        with torch.no_grad():
            logs = model(ids).logits[0].log_softmax(-1)
        places = range(len(asked), ids.shape[1])
        return sum(float(logs[i - 1, ids[0, i]]) for i in places)

    found = []
    for doc in docs:
        first, second = (likelihood(doc["q"], choice) for choice in doc["choices"])
        found.append(float(first > second))
    return found
