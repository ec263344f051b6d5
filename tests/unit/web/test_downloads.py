from __future__ import annotations

from pathlib import Path

from fastapi.testclient import TestClient

from made_runs import make_run
from tunebook.web.app import make_app


def test_the_numbers_behind_the_curves_come_as_csv(book: Path) -> None:
    make_run(book, "a", steps=3)
    client = TestClient(make_app(book), base_url="http://127.0.0.1")
    answer = client.get("/runs/a/curves.csv")
    assert answer.headers["content-type"].startswith("text/csv")
    lines = answer.text.splitlines()
    assert lines[0].startswith("step,epoch,loss,")
    assert [line.split(",")[0] for line in lines[1:]] == ["0", "1", "2", "3"]
    assert client.get("/runs/z/curves.csv").status_code == 404
