from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from made_runs import make_run
from tunebook.web import later, sweep
from tunebook.web.app import make_app
from tunebook.workflows.runs import bounds


@pytest.fixture
def client(book: Path) -> TestClient:
    for number in range(9):
        make_run(book, f"run_{number}", rank=2**number, loss=2 + number / 10, method="lora")
    make_run(book, "run_9", rank=2, loss=float("nan"), method="lora")
    importlib.import_module("scipy.stats")  # the page would not wait for it on a busy machine
    return TestClient(make_app(book), base_url="http://127.0.0.1")


def test_every_run_has_a_line_that_leads_to_it_and_a_row(client: TestClient) -> None:
    page = client.get("/sweep").text
    assert page.count('class="reach"') == 9
    assert "run_3: val_loss 2.300; lora.rank 8" in page
    assert "a higher lora.rank goes with a higher val_loss" in page
    assert '<a href="/runs/run_9">run_9</a> (finished)' in page


@pytest.mark.parametrize(
    "query", ["filter=lora.rank=8..32", "filter=lora.rank>=8&filter=lora.rank<=32"]
)
def test_filters_keep_a_stretch_of_an_axis(client: TestClient, query: str) -> None:
    page = client.get(f"/sweep?{query}").text
    assert page.count('class="reach"') == 3
    assert "cannot tell: 3 runs, and it takes 8" in page


def test_a_value_on_an_axis_is_a_link_that_keeps_its_runs(client: TestClient) -> None:
    page = client.get("/sweep?filter=lora.rank<=32").text
    wanted = "/sweep?filter=lora.rank%3C%3D32&filter=lora.rank%3D8.0&by=val_loss"
    assert f'href="{wanted}"'.replace("&", "&amp;") in page
    kept = client.get(wanted).text
    assert "run_3" in kept
    assert "no setting differs" in kept


def test_a_mistake_in_the_query_is_one_sentence(client: TestClient) -> None:
    assert "no run has a column" in client.get("/sweep?filter=lora.rnk=8").text
    answer = client.get("/sweep?by=name")
    assert answer.status_code == 400
    assert "no run has a column" in client.get("/sweep?columns=lora.rnk").text
    assert "cannot be drawn by" in answer.text


def test_a_range_is_two_filters_and_a_path_is_none() -> None:
    assert bounds("lora.rank=8..32") == ["lora.rank>=8", "lora.rank<=32"]
    assert bounds("train.learning_rate = 1e-5..1e-3") == [
        "train.learning_rate>=1e-5",
        "train.learning_rate<=1e-3",
    ]
    assert bounds("data.0.path=../x.json") == ["data.0.path=../x.json"]


def test_the_page_is_there_before_a_slow_library_is_and_loads_again_after_it(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "there"
    waits = f"import pathlib, time\nwhile not pathlib.Path({str(there)!r}).exists():\n"
    (tmp_path / "takes_long.py").write_text(waits + "    time.sleep(0.01)\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sweep, "PATIENCE_SECONDS", 0.05)
    client.app.state.desk.statistics = later.Later("takes_long")  # type: ignore[attr-defined]
    page = client.get("/sweep").text
    assert page.count('class="reach"') == 9
    assert 'hx-get="/sweep/ready"' in page
    assert "What goes with" not in page
    assert "hx-refresh" not in client.get("/sweep/ready").headers
    there.touch()
    client.app.state.desk.statistics.ready(30)  # type: ignore[attr-defined]
    assert client.get("/sweep/ready").headers["hx-refresh"] == "true"
    assert "a higher lora.rank goes with a higher val_loss" in client.get("/sweep").text
