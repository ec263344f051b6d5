"""Answers beside each other: whole, as text, with what differs and what a judge gave."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from made_evaluations import make_answers, make_evaluation
from made_runs import make_run
from tunebook.book.places import RunFolder
from tunebook.web.app import make_app
from tunebook.web.side import LONG


@pytest.fixture
def client(book: Path) -> TestClient:
    return TestClient(make_app(book), base_url="http://127.0.0.1")


def judged(run: RunFolder, answers: str, scores: list[float], **settings: object) -> None:
    lines = [
        {"repeat": 0, "reply": json.dumps({"reason": f"because {run.name}", "score": score})}
        for score in scores
    ]
    make_evaluation(run, scores, "judge", lines=lines, answers=answers, **settings)


@pytest.fixture
def pair(book: Path) -> tuple[RunFolder, RunFolder]:
    """Two runs with three answers each, judged; the second question is where they lie apart."""
    runs = make_run(book, "one"), make_run(book, "two")
    for run, texts, scores in zip(
        runs,
        (["a small light", "<script>x</script>", "c" * 4000], ["a big light", "b\nnew", "c"]),
        ([50.0, 90.0, 50.0], [60.0, 10.0, 50.0]),
        strict=True,
    ):
        lines = [{"reference": "a light", "tags": ["hard" if i == 1 else "easy"]} for i in range(3)]
        judged(run, make_answers(run, texts, lines=lines), scores, judge="j", prompt="p")
    return runs


def test_questions_stand_by_how_far_their_scores_lie_apart(pair, client: TestClient) -> None:
    page = client.get("/side?run=one&run=two").text
    places = [page.index(f"q#{i}</a>") for i in range(3)]
    assert sorted(range(3), key=places.__getitem__) == [1, 0, 2]
    assert "80 points apart" in page
    assert "<b>judge:</b> because one" in page
    asked = client.get("/side?run=one&run=two&sort=asked").text
    assert asked.index("q#0</a>") < asked.index("q#1</a>")


def test_words_are_marked_against_the_first_or_the_reference(pair, client: TestClient) -> None:
    page = client.get("/side?run=one&run=two&item=q%230").text
    assert "a <del>small </del><ins>big </ins>light" in page
    page = client.get("/side?run=one&run=two&item=q%230&diff=reference").text
    assert "a <ins>small </ins>light" in page
    page = client.get("/side?run=one&run=two&item=q%230&diff=none").text
    assert "<ins>" not in page


def test_no_text_is_cut_and_none_is_markup(pair, client: TestClient) -> None:
    page = client.get("/side?run=one&run=two&diff=none").text
    assert "&lt;script&gt;x&lt;/script&gt;" in page
    assert "<script>x" not in page
    assert "show all 4,000 characters" in page
    shown = "c" * LONG
    assert f">{shown}<" in page
    assert f">{'c' * (4000 - LONG)}<" in page
    assert "b\nnew" in page


def test_questions_are_found_by_word_and_tag_and_come_in_pages(
    book: Path, pair, client: TestClient
) -> None:
    assert "1 of 3 questions" in client.get("/side?run=one&run=two&q=BIG").text
    assert "1 of 3 questions" in client.get("/side?run=one&run=two&tag=hard").text
    assert "No question has that" in client.get("/side?run=one&run=two&q=nowhere").text
    for name in ("many", "more"):
        make_answers(make_run(book, name), [f"answer {i}" for i in range(60)])
    page = client.get("/side?run=many&run=more&page=2").text
    assert "page 2 of 3" in page
    assert 'rel="next" href="/side?run=many&amp;run=more&amp;page=3"' in page
    assert "answer 25" in page
    assert "answer 24" not in page


def test_the_base_is_a_column_and_other_answers_can_be_chosen(pair, client: TestClient) -> None:
    sampled = {"sampling": {"temperature": 0.8, "max_new_tokens": 16}}
    for run in pair:
        make_answers(run, ["sampled"], **sampled)
    stem = make_answers(pair[0], ["of the base"], "base", **sampled)
    page = client.get("/side?run=one&run=one/base&run=two").text
    assert "of the base" in page
    assert stem.startswith("answers-base")
    # Of several that both have, those that were judged come first.
    page = client.get("/side?run=one&run=two").text
    assert "3 of 3 questions" in page
    other = next(part for part in page.split('<option value="answers-final-') if "0.8" in part)
    chosen = client.get(f"/side?run=one&run=two&answers=answers-final-{other[:8]}").text
    assert "1 of 1 questions" in chosen
    assert "temperature 0.8, at most 16 tokens" in chosen
    wrong = client.get("/side?run=one&run=two&answers=answers-final-x").text
    assert "there is answers-final-" in wrong


def test_what_does_not_stand_beside_is_refused_in_place(book: Path, client: TestClient) -> None:
    make_answers(make_run(book, "one"), ["a"], sampling={"temperature": 0.0})
    make_answers(make_run(book, "two"), ["a"], sampling={"temperature": 0.8})
    make_run(book, "three")
    said = client.get("/side?run=one&run=two")
    assert said.status_code == 200
    assert "sampling.temperature: 0.0 and 0.8" in said.text
    assert "no answers of three/final was measured" in client.get("/side?run=one&run=three").text
    assert client.get("/side?run=one&run=nobody").status_code == 404
    assert 'value="two"' in client.get("/side").text


def test_the_table_goes_out_whole(pair, client: TestClient) -> None:
    query = "run=one&run=two&tag=hard"
    (only,) = client.get(f"/side.json?{query}").json()["questions"]
    assert only["answers"]["two"]["text"] == "b\nnew"
    assert only["answers"]["two"]["score"] == 10
    rows = list(csv.reader(io.StringIO(client.get(f"/side.csv?{query}").text)))
    assert rows[1] == [
        "q#1",
        "Question 1?",
        "a light",
        "<script>x</script>",
        "b\nnew",
        "90.0",
        "10.0",
    ]
    assert "```\n<script>x</script>\n```" in client.get(f"/side.md?{query}").text
