from __future__ import annotations

import json
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from made_runs import make_run
from tunebook.web.app import make_app
from tunebook.workflows.lineage import book_lineage


@pytest.fixture
def client(book: Path) -> TestClient:
    make_run(book, "run_1")
    make_run(book, "run_2", extends="run_1", learning_rate=1e-3)
    make_run(book, "run_3", model="run:run_2/best")
    make_run(book, "lost", model="run:gone", loss=float("nan"))
    return TestClient(make_app(book), base_url="http://127.0.0.1")


def test_every_run_is_a_link_that_says_what_it_changed(client: TestClient) -> None:
    page = client.get("/lineage").text
    assert '<a href="/runs/run_2" aria-label="run_2: finished; val_loss 2.000; ' in page
    assert "extends run_1 with learning_rate=0.001" in page
    assert 'class="label"' in page
    assert "weights, best" in page
    assert "gone: not in this book" in page


def test_one_run_is_shown_with_what_it_comes_from_and_what_came_of_it(client: TestClient) -> None:
    page = client.get("/lineage?run=run_2").text
    drawing = page[page.index("<svg class") : page.index("</svg>\n</div>")]
    assert [name in drawing for name in ("run_1", "run_2", "run_3", "lost")] == [
        True, True, True, False,
    ]  # fmt: skip
    assert drawing.count("current") == 1
    assert client.get("/lineage?run=run_9").status_code == 404


def test_json_and_mermaid_are_those_of_the_command(client: TestClient, book: Path) -> None:
    found = book_lineage(book, "run_2")
    assert client.get("/lineage.json?run=run_2").json() == json.loads(json.dumps(found.as_json()))
    assert client.get("/lineage.mmd?run=run_2").text == found.mermaid()


def test_a_model_and_a_hypothesis_cannot_become_markup(book: Path) -> None:
    run = make_run(book, "run_1", model='"<script>alert(1)</script>"')
    run.seal_json.unlink()
    run.resolved_yaml.write_text(
        run.resolved_yaml.read_text().replace(
            "tags: [", "hypothesis: '\"><script>alert(2)</script>', tags: ["
        )
    )
    page = TestClient(make_app(book), base_url="http://127.0.0.1").get("/lineage").text
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "&lt;script&gt;alert(2)" in page
