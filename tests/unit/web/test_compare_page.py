"""Runs beside each other: what changed, the three words, refusals in place, the same as files."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from made_evaluations import make_evaluation
from made_runs import make_run, make_validation
from tunebook.book.events import EventWriter
from tunebook.cli.main import main
from tunebook.web.app import make_app


@pytest.fixture
def client(book: Path) -> TestClient:
    return TestClient(make_app(book), base_url="http://127.0.0.1")


def draw(shift: float = 0.0, n: int = 40) -> list[float]:
    noise = np.random.default_rng(int(shift * 100)).normal(0, 0.05, n)
    return (np.random.default_rng(0).uniform(1, 3, n) + shift + noise).tolist()


def test_without_two_runs_the_page_lets_them_be_chosen(book: Path, client: TestClient) -> None:
    make_run(book, "one")
    make_run(book, "two")
    page = client.get("/compare?run=one").text
    assert 'name="run" value="one" checked' in page
    assert 'name="run" value="two">' in page
    assert client.get("/compare?run=one&run=nobody").status_code == 404
    wrong = client.get("/compare?run=one&run=two&margin=wide")
    assert wrong.status_code == 400
    assert "margin" in wrong.text


def test_settings_that_differ_stand_in_a_column_for_each_run(
    book: Path, client: TestClient
) -> None:
    make_run(book, "one")
    make_run(book, "two", rank=8)
    make_run(book, "three", rank=8, learning_rate=1e-3)
    page = client.get("/compare?run=one&run=two&run=three").text
    row = page.partition("<code>lora.rank</code>")[2].partition("</tr>")[0]
    assert row.count("<td>") == 3
    assert row.count("<b>8</b>") == 2
    assert "one change" in page
    assert "2 changes at once" in page
    assert "none of them alone can be called the cause" in page


def test_what_cannot_be_the_cause_is_said_of_two_runs(book: Path, client: TestClient) -> None:
    run = make_run(book, "one")
    other = make_run(book, "two")
    for one, norm in ((run, 50), (other, 100)):
        text = one.resolved_yaml.read_text().replace("epochs: 1.0", f"max_grad_norm: {norm}")
        one.resolved_yaml.write_text(text)
    said = client.get("/compare/causes?run=one&run=two").text
    assert "train.max_grad_norm 50 -&gt; 100 cannot explain a difference" in said
    assert "/compare/causes?run=one&amp;run=two" in client.get("/compare?run=one&run=two").text


def test_twenty_runs_are_drawn_and_ten_are_compared(book: Path, client: TestClient) -> None:
    for i in range(12):
        make_evaluation(make_run(book, f"r{i}"), [1.0] * 8)
    page = client.get("/compare?" + "&".join(f"run=r{i}" for i in range(12))).text
    assert "at most 10 runs" in page
    assert "&#34;r11&#34;" in page or '"r11"' in page
    too_many = client.get("/compare?" + "&".join(f"run=x{i}" for i in range(21)))
    assert too_many.status_code == 400
    assert "at most 20" in too_many.text


def test_a_run_is_held_against_its_base(book: Path, client: TestClient) -> None:
    run = make_run(book, "one")
    make_evaluation(run, draw())
    make_evaluation(run, draw(0.5), subject="base", weights="b")
    panel = client.get("/compare/scores?run=one&run=one/base&by=loss").text
    assert "one is better" in panel
    assert "no setting differs" in client.get("/compare?run=one&run=one/base").text


def test_every_pair_gets_one_of_three_words(book: Path, client: TestClient) -> None:
    for name, shift in (("a", 0.0), ("b", 0.0), ("c", 0.5)):
        make_evaluation(make_run(book, name), draw(shift), "judge", prompt="x")
    page = client.get("/compare?run=a&run=b&run=c").text
    assert "/compare/scores?run=a&amp;run=b&amp;run=c&amp;by=judge" in page
    panel = client.get("/compare/scores?run=a&run=b&run=c&by=judge&margin=0.1").text
    assert panel.count(">different</span>") == 2
    assert "c is better" in panel  # more points are
    assert panel.count(">equivalent</span>") == 1
    assert "chance of being best" in panel
    assert "Verdicts are corrected for 3 pairs" in panel
    # What was compared once is part of the page from then on.
    assert ">different</span>" in client.get("/compare?run=a&run=b&run=c&margin=0.1").text


def test_a_new_evaluation_is_not_answered_from_the_old_one(book: Path, client: TestClient) -> None:
    runs = make_run(book, "a"), make_run(book, "b")
    for run in runs:
        make_evaluation(run, draw())
    assert client.get("/compare.json?run=a&run=b").json()["difference"] == 0
    make_evaluation(runs[1], draw(2.0), made="later")
    make_evaluation(runs[0], draw(), made="later")
    found = client.get("/compare.json?run=a&run=b").json()
    assert found["difference"] == pytest.approx(-2, abs=0.1)


def test_a_refusal_stands_in_its_place_and_the_rest_of_the_page_beside_it(
    book: Path, client: TestClient
) -> None:
    one, two = make_run(book, "one"), make_run(book, "two", rank=8)
    make_evaluation(one, draw(), "judge", prompt="x")
    others = [{"item_hash": f"h{i}" if i else "other"} for i in range(40)]
    make_evaluation(two, draw(), "judge", lines=others, prompt="x")
    panel = client.get("/compare/scores?run=one&run=two&by=judge")
    assert panel.status_code == 200
    assert "different-validation-set" in panel.text
    assert 'href="/compare?run=one&amp;run=two&amp;by=judge&amp;shared=1"' in panel.text
    page = client.get("/compare?run=one&run=two&by=judge&shared=1").text
    assert "lora.rank" in page
    shared = client.get("/compare/scores?run=one&run=two&by=judge&shared=1").text
    assert ">equivalent</span>" in shared
    assert client.get("/compare.json?run=one&run=two").status_code == 404
    for kind in ("md", "csv"):
        assert "different-validation-set" in client.get(f"/compare.{kind}?run=one&run=two").text


def test_runs_that_were_not_evaluated_show_their_last_validation(
    book: Path, client: TestClient
) -> None:
    make_run(book, "one")
    make_run(book, "two", loss=3.0)
    page = client.get("/compare?run=one&run=two").text
    assert "tunebook evaluate one\ntunebook evaluate two" in page
    panel = client.get("/compare/scores?run=one&run=two&by=val_loss").text
    assert "1.900 to 2.100" in panel
    assert "averages without their documents" in panel
    make_run(book, "three", examples_hash="h2")
    panel = client.get("/compare/scores?run=one&run=three&by=val_loss").text
    assert "validated on different examples" in panel


def test_the_tables_are_those_of_the_command_line(
    book: Path, client: TestClient, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(book)
    for name, shift in (("a", 0.0), ("b_c", 0.5)):
        make_evaluation(make_run(book, name, rank=8 if shift else 16), draw(shift))
    assert main(["compare", "a", "b_c", "--json"]) == 0
    assert client.get("/compare.json?run=a&run=b_c").text == capsys.readouterr().out
    markdown = client.get("/compare.md?run=a&run=b_c").text
    assert "| lora.rank | 16  | 8   |" in markdown
    assert "a minus b_c | different" in markdown
    rows = list(csv.reader(io.StringIO(client.get("/compare.csv?run=a&run=b_c").text)))
    assert rows[1][:3] == ["loss", "a minus b_c", "different"]
    settings = client.get("/compare.csv?run=a&run=b_c&table=settings").text
    assert settings == "setting,a,b_c\nlora.rank,16,8\n"


def test_validations_of_a_run_that_went_back_are_compared_anew(
    book: Path, client: TestClient
) -> None:
    make_run(book, "one")
    run = make_run(book, "two", state=None)
    address = "/compare/scores?run=one&run=two&by=val_loss"
    before = client.get(address).text
    with EventWriter(run, 2) as events:
        events.write("state", {"state": "running", "reason": "", "step": 5})
        events.write("validation", make_validation(10, 5.25))
    after = client.get(address).text
    assert "5.25" not in before
    assert "5.25" in after
