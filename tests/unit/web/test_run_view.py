"""The page of one run: every part, in every state, and nothing of the book as markup."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from made_evaluations import make_answers, make_evaluation
from made_runs import make_plan, make_run, make_step
from tunebook.book.events import EventWriter
from tunebook.book.liveness import acquire_run
from tunebook.book.places import RunFolder
from tunebook.records import Diagnosis, Sample, Verdict
from tunebook.web.app import make_app

SECTIONS = (
    "hypothesis", "curves", "verdicts", "samples", "data", "plan", "settings", "weights",
    "evaluations", "lineage", "files", "words",
)  # fmt: skip
EVIL = "<script>alert(1)</script>"


@pytest.fixture
def client(book: Path) -> TestClient:
    return TestClient(make_app(book), base_url="http://127.0.0.1")


def page_of(client: TestClient, name: str = "run_1") -> str:
    answer = client.get(f"/runs/{name}")
    assert answer.status_code == 200
    return answer.text


def section(page: str, name: str) -> str:
    found = re.search(rf'<section aria-labelledby="{name}">.*?</section>', page, re.DOTALL)
    assert found is not None, name
    return found[0]


def live(client: TestClient, seen: Mapping[str, str] | None = None) -> tuple[str, dict[str, str]]:
    """Ask for what is new; gives the answer, and the digests that the next question would name."""
    answer = client.get("/runs/run_1/live", params=dict(seen or {}))
    found = re.search(r'hx-get="[^?]*\?([^"]*)"', answer.text)
    pairs = found[1].replace("&amp;", "&").split("&") if found else []
    return answer.text, dict(pair.split("=") for pair in pairs)


def test_a_finished_run_shows_every_part(book: Path, client: TestClient) -> None:
    run = make_run(book, "run_1", predict=("val_loss < 2.5", "val_loss < 1"))
    make_plan(run)
    spike = Verdict(
        "bad_batch", 40, 42, "a batch of noise", "likely", {"surprise": 9.5}, "leave it out",
        ("seed=1",),
    )  # fmt: skip
    with EventWriter(run, 1) as events:
        events.write("verdicts", Diagnosis(10, (spike,), ("bad_batch", "divergence"), {}, True))
    page = page_of(client)
    for name in SECTIONS:
        assert f'<h2 id="{name}">' in page
        assert f'<a href="#{name}">' in page
    expected = section(page, "hypothesis")
    assert "A few sayings are enough." in expected
    assert "before step 1" in expected
    assert ("✓ held" in expected, "✗ failed" in expected) == (True, True)
    verdicts = section(page, "verdicts")
    assert 'href="?first=30&amp;last=52#curves"' in verdicts
    for words in ("a batch of noise", "9.5", "leave it out", "<code>divergence</code>"):
        assert words in verdicts
    assert "tunebook new run_1_next --from run_1 seed=1" in verdicts
    assert "8 empty answer" in section(page, "data")
    assert "<mark>a small light</mark>" in section(page, "data")
    assert "-10.0 %" in section(page, "plan")
    assert "train.epochs" in section(page, "settings")


def test_settings_say_where_each_comes_from(book: Path, client: TestClient) -> None:
    make_run(book, "run_1")
    run = make_run(book, "run_2", extends="run_1", learning_rate=1e-3)
    text = run.resolved_yaml.read_text()
    run.resolved_yaml.write_text(text + "  inherited: {lora.rank: run_1, method: default}\n")
    settings = section(page_of(client, "run_2"), "settings")
    row = next(r for r in settings.split("<tr>") if "train.learning_rate" in r)
    assert "overridden" in row
    assert ("0.001" in row, "5e-05" in row) == (True, True)
    row = next(r for r in settings.split("<tr>") if "lora.rank" in r)
    assert "run_1 <span" in row
    assert "inherited" in row


def test_a_seal_that_was_broken_is_said_aloud(book: Path, client: TestClient) -> None:
    run = make_run(book, "run_1")
    sealed = json.loads(run.seal_json.read_text())
    run.seal_json.write_text(json.dumps(sealed | {"hypothesis": "I knew it."}))
    expected = section(page_of(client), "hypothesis")
    assert 'role="alert"' in expected
    assert "The seal is broken" in expected
    assert "before step 1.</p>\n\n<div" not in expected


def test_nothing_of_the_book_becomes_markup(book: Path, client: TestClient) -> None:
    run = make_run(book, "run_1", state=None, predict=(EVIL,))
    batch = [{"example": EVIL, "text": f"{EVIL}⟦{EVIL}⟧{EVIL}⟦{EVIL}"}]
    verdict = Verdict("bad_batch", 3, 3, EVIL, "likely", {EVIL: EVIL}, EVIL, (f"seed={EVIL}",))
    with EventWriter(run, 1) as events:
        events.write("facts", {"first_batch": batch, "device": EVIL})
        events.write("sample", Sample(10, EVIL, EVIL, EVIL, EVIL))
        events.write("verdicts", Diagnosis(10, (verdict,), (), {EVIL: EVIL}, True))
        events.write("state", {"state": "failed", "reason": EVIL, "step": 10})
    run.notebook_md.write_text(f"{EVIL}\n\n[x](javascript:alert(1))\n")
    page = page_of(client)
    assert EVIL not in page
    assert page.count("&lt;script&gt;") > 12
    assert 'href="javascript' not in page
    assert "style=" not in page


def test_a_run_that_has_not_begun_asks_for_its_hypothesis_only(
    book: Path, client: TestClient
) -> None:
    run = RunFolder(book, "run_1")
    run.path.mkdir(parents=True)
    run.run_yaml.write_text("name: run_1\nmodel: tunebook/tiny\ntrain: {learning_rate: 0.01}\n")
    page = page_of(client)
    assert "tunebook train run_1" in page
    assert 'action="/runs/run_1/hypothesis"' in page
    assert "train.learning_rate" in section(page, "settings")
    assert 'id="curves"' not in page
    # Once it begins, its page is asked for anew.
    asked = {"was": "new"}
    assert "HX-Refresh" not in client.get("/runs/run_1/live", params=asked).headers
    with EventWriter(run, 1) as events:
        events.write("state", {"state": "running", "reason": "", "step": 0})
    assert client.get("/runs/run_1/live", params=asked).headers["HX-Refresh"] == "true"


def test_an_imported_curve_shows_what_there_is(book: Path, client: TestClient) -> None:
    run = make_run(book, "run_1", steps=0, state=None)
    run.resolved_yaml.write_text(
        "recipe: {name: run_1}\nenvironment:\n  imported: {file: log.csv, format: CSV}\n"
    )
    run.seal_json.unlink()
    run.data_json.unlink()
    unknown = dict.fromkeys(
        ("epoch", "loss_sum", "target_tokens", "tokens", "padding_tokens", "grad_norm", "clipped",
         "applied", "seconds", "memory_bytes", "learning_rate")
    )  # fmt: skip
    with EventWriter(run, 1) as events:
        events.write("step", replace(make_step(50), **unknown, examples=()))
        events.write("state", {"state": "finished", "reason": "", "step": 50})
    page = page_of(client)
    assert "log.csv (CSV)" in page
    assert "step <strong>50</strong>" in page
    assert "seal.json" not in page
    assert 'id="weights"' not in page


def test_a_damaged_run_says_what_is_wrong_and_shows_the_rest(
    book: Path, client: TestClient
) -> None:
    run = make_run(book, "run_1")
    (path,) = run.events.iterdir()
    path.write_text(path.read_text() + '{"no": "event"}\n')
    for _ in range(2):  # the second look must not go on behind what the first could not read
        page = page_of(client)
        assert f"{path.name}:" in page
        assert "this line is not an event" in page
        assert "damaged" in page
        assert "A few sayings are enough." in page
        assert "8 empty answer" in page
        assert "data-curves" not in page
    run.data_json.write_text('{"sources": 5}')
    assert "cannot be read (TypeError" in section(page_of(client), "data")


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("failed", "the disk was full"),
        ("stopped", "the disk was full"),
        ("paused", "resume run_1"),
        ("running", "it ended without saying why"),
    ],
)
def test_a_run_that_did_not_finish_says_why_and_how_it_goes_on(
    book: Path, client: TestClient, state: str, said: str
) -> None:
    run = make_run(book, "run_1", state=None)
    with EventWriter(run, 1) as events:
        events.write("state", {"state": state, "reason": "the disk was full", "step": 10})
    page = page_of(client)
    # A run that was killed had no time to say that it is not running any more.
    assert f">{state if state != 'running' else 'paused'}</span>" in page
    assert said in page


def test_only_what_changed_is_sent_while_a_run_goes_on(book: Path, client: TestClient) -> None:
    run = make_run(book, "run_1", state=None, predict=("val_loss < 2.5",))
    with acquire_run(run), EventWriter(run, 1) as events:
        events.write("facts", {"steps": 14})
        events.write("verdicts", Diagnosis(10, (), ("divergence",), {}, False))
        everything, seen = live(client)
        assert everything.count("hx-swap-oob") == 8
        assert "about 2.0 s left" in everything
        assert "✓ holding" in everything
        nothing, _ = live(client, seen)
        assert "hx-swap-oob" not in nothing
        events.write("step", make_step(11, 1.5))
        changed, seen = live(client, seen)
        assert re.findall(r'id="piece-(\w+)"', changed) == ["progress", "work", "files"]
        amber = Verdict("divergence", 9, 11, "it rises", "amber", {}, "lower the rate")
        events.write("facts", {"steps": 11})
        events.write("verdicts", Diagnosis(11, (amber,), ("divergence",), {}, False))
        changed, seen = live(client, seen)
        assert "divergence?" in changed
        assert " left<" not in changed
        assert "piece-verdicts" in changed
        events.write("state", {"state": "finished", "reason": "", "step": 11})
        over, _ = live(client, seen)
        assert "hx-get" not in over
        assert "run_1 is finished." in over


def test_what_was_trained_of_each_source_is_counted_when_it_is_asked_for(
    book: Path, client: TestClient
) -> None:
    run = make_run(book, "run_1")
    data = json.loads(run.data_json.read_text())
    shares = [{"name": n, "weight": w} for n, w in (("sayings", 1.0), ("poems", 3.0))]
    run.data_json.write_text(json.dumps(data | {"mixture": shares}))
    assert 'hx-get="/runs/run_1/sources"' in section(page_of(client), "data")
    rows = client.get("/runs/run_1/sources").text.split("<tr>")
    assert "100 %" in next(row for row in rows if "sayings" in row)
    assert "0 %" in next(row for row in rows if "poems" in row)


def test_files_of_a_run_are_shown_as_text_and_no_others(book: Path, client: TestClient) -> None:
    run = make_run(book, "run_1")
    run.run_yaml.write_text(EVIL)
    answer = client.get("/runs/run_1/file/run.yaml")
    assert answer.text == EVIL
    assert answer.headers["content-type"].startswith("text/plain")
    for path in ("seal.json", "..%2F..%2Ftunebook.yaml", "train.log"):
        assert client.get(f"/runs/run_1/file/{path}").status_code == 404
    assert client.get("/runs/nobody").status_code == 404


def test_links_of_evaluations_lead_to_what_they_say(book: Path, client: TestClient) -> None:
    run = make_run(book, "run_1")
    for subject in ("base", "final"):
        make_answers(run, ["a word", "two words"], subject)
    make_evaluation(run, [1.0, 0.0], "chess-games")
    links = re.findall(r'href="(/(?:side|chess)[^"]*)"', section(page_of(client), "evaluations"))
    assert len(links) == 2
    side, chess = (client.get(link.replace("&amp;", "&")) for link in links)
    assert "run_1/base beside run_1" in side.text
    assert chess.status_code == 200


def test_how_a_paused_run_goes_on_is_shown_once_and_as_a_command(
    book: Path, client: TestClient
) -> None:
    run = make_run(book, "run_1", state=None)
    reason = "stopped after step 41; `tunebook resume run_1` goes on"
    with EventWriter(run, 1) as events:
        events.write("state", {"state": "paused", "reason": reason, "step": 41})
    page = page_of(client)
    assert "Because: stopped after step 41</p>" in page
    assert "`" not in page[page.index("Because") : page.index("Because") + 400]
    assert page.count("<code>tunebook resume run_1</code>") == 1


def test_a_command_in_why_a_run_failed_is_shown_as_one_and_nothing_in_it_is_markup(
    book: Path, client: TestClient
) -> None:
    run = make_run(book, "run_1", state=None)
    reason = "a <b>device</b> was gone; `tunebook resume run_1` on each of them goes on"
    with EventWriter(run, 1) as events:
        events.write("state", {"state": "failed", "reason": reason, "step": 41})
    page = page_of(client)
    assert (
        "Because: a &lt;b&gt;device&lt;/b&gt; was gone; <code>tunebook resume run_1</code> on each"
    ) in page
