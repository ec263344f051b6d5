"""What is written from a page is written whole, by whoever else writes at the same time."""

from __future__ import annotations

import multiprocessing
import re
import threading
from datetime import date
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from made_runs import make_run
from tunebook.book.index import run_summaries
from tunebook.book.liveness import acquire_run
from tunebook.book.places import RunFolder
from tunebook.book.seal import read_seal
from tunebook.errors import BookError
from tunebook.web.app import make_app
from tunebook.web.guard import Guard
from tunebook.workflows import train as train_module
from tunebook.workflows.hypothesis import write_hypothesis
from tunebook.workflows.new import new_run
from tunebook.workflows.note import write_note
from tunebook.workflows.notebook import build_notebook
from tunebook.workflows.train import load_recipe, start_run

GUARD = Guard(csrf="secret")
IN_PLACE = {"hx-request": "true", "x-csrf-token": "secret"}


def client_of(book: Path) -> TestClient:
    return TestClient(make_app(book, GUARD), base_url="http://127.0.0.1", follow_redirects=False)


def test_a_note_and_its_tags_reach_the_page_with_and_without_a_script(book: Path) -> None:
    run = make_run(book, "run_1")
    client = client_of(book)
    form = {"csrf": "secret", "text": "a first look", "tags": "#spike, lora"}
    moved = client.post("/runs/run_1/note", data=form)
    assert (moved.status_code, moved.headers["location"]) == (303, "/runs/run_1#notes")
    assert "a first look #spike #lora\n" in run.notebook_md.read_text()
    cell = client.post(
        "/runs/run_1/note", data={"text": "a second", "view": "latest"}, headers=IN_PLACE
    ).text
    assert "a second" in cell
    assert "a first look" not in cell
    words = client.post("/runs/run_1/note", data={"text": "a third"}, headers=IN_PLACE).text
    assert all(text in words for text in ("a first look", "a second", "a third"))


def test_the_form_of_a_note_stands_alone_or_in_the_table(book: Path) -> None:
    make_run(book, "run_1")
    client = client_of(book)
    assert "<html" in client.get("/runs/run_1/note").text
    form = client.get("/runs/run_1/note", headers=IN_PLACE).text
    assert form.startswith('<form class="write" method="post" action="/runs/run_1/note"')
    around = {**IN_PLACE, "hx-current-url": "http://127.0.0.1/?filter=method=full&sort=name"}
    cell = client.get("/runs/run_1/note?closed=true", headers=around).text
    assert 'href="/?filter=method=full&amp;filter=tags=first-light&amp;sort=name"' in cell


def test_a_note_is_shown_as_text_and_never_as_markup(book: Path) -> None:
    make_run(book, "run_1")
    client = client_of(book)
    evil = "<script>alert(1)</script> [x](javascript:alert(1))"
    for view in ("latest", "words"):
        data = {"text": evil, "view": view}
        answer = client.post("/runs/run_1/note", data=data, headers=IN_PLACE).text
        assert "&lt;script&gt;" in answer
        assert "<script" not in answer
        assert 'href="javascript' not in answer


def test_what_cannot_be_written_is_said_in_a_sentence(book: Path) -> None:
    make_run(book, "run_1")
    new_run(book, "run_2")
    client = client_of(book)
    for path, data, status, sentence in (
        ("run_1/note", {"text": " "}, 400, "the note is empty"),
        ("run_1/note", {"text": "x", "tags": "a&b"}, 400, "is not one word"),
        ("run_9/note", {"text": "x"}, 404, "has no run `run_9`"),
        ("run_1/hypothesis", {"hypothesis": "late"}, 404, "has begun"),
        ("run_2/hypothesis", {"predictions": "loss goes down"}, 400, "cannot read the prediction"),
    ):
        answer = client.post(f"/runs/{path}", data={"csrf": "secret", **data})
        assert answer.status_code == status
        assert sentence in answer.text
    assert client.post("/runs/run_1/note", data={"text": "x"}).status_code == 403
    assert not (book / "runs" / "run_1" / "notebook.md").exists()


RUN_FILE = """\
# My file.
name: a
model: tunebook/tiny   # small
stage: cpt
data:
  - path: 'x.txt'
    format: lines  # one a line
notebook:
  hypothesis: ~        # why this run is made
  predict: []          # such as: [no spike]
  tags: [first]
train: {epochs: 1, learning_rate: 5e-5}
"""


def test_what_is_expected_of_an_unstarted_run_is_all_that_changes_in_its_file(book: Path) -> None:
    run = RunFolder(book, "a")
    run.path.mkdir(parents=True)
    for ends in ("\n", "\r\n"):
        run.run_yaml.write_bytes(RUN_FILE.replace("\n", ends).encode())
        form = {
            "hypothesis": 'It: "learns" # fast',
            "predictions": "val_loss < 2\r\n\r\nno spike\r\n",
        }
        answer = client_of(book).post("/runs/a/hypothesis", data=form, headers=IN_PLACE).text
        assert "It: &#34;learns&#34; # fast</textarea>" in answer
        expected = RUN_FILE.replace("~        #", "'It: \"learns\" # fast' #").replace(
            "[]          #", "[val_loss < 2, no spike] #"
        )
        assert run.run_yaml.read_bytes().decode() == expected.replace("\n", ends)
    run.run_yaml.write_text("name: a\nextends: b\n")
    write_hypothesis(book, "a", None, ["no spike"])
    assert run.run_yaml.read_text() == (
        "name: a\nextends: b\nnotebook:\n  hypothesis:\n  predict: [no spike]\n"
    )


def test_what_was_expected_of_a_run_that_has_begun_stays_sealed(book: Path) -> None:
    run = make_run(book, "a", predict=("no spike",))
    before = run.run_yaml.read_bytes(), read_seal(run)
    with pytest.raises(BookError, match="sealed"):
        write_hypothesis(book, "a", "I knew it", [])
    assert (run.run_yaml.read_bytes(), read_seal(run)) == before


def test_what_is_written_while_a_run_begins_is_neither_lost_nor_left_unsealed(book: Path) -> None:
    (book / "x.txt").write_text("a line\n" * 40)
    new_run(book, "a", ["stage=cpt", "data=[{path: ../../x.txt, format: lines}]"])
    loaded = load_recipe("a", [], book)
    write_hypothesis(book, "a", "It learns.", ["no spike"])
    with pytest.raises(BookError, match="was changed while run a began"):
        start_run(book, loaded)
    run = start_run(book, load_recipe("a", [], book))
    sealed = read_seal(run)
    assert sealed is not None
    assert (sealed.hypothesis, sealed.predictions) == ("It learns.", ("no spike",))


def test_a_note_on_a_run_that_trains_waits_below_what_its_trainer_will_write(book: Path) -> None:
    run = make_run(book, "run_1", state=None)
    with acquire_run(run):
        write_note(book, ["run_1"], "it is slow", day=date(2026, 1, 2))
        assert run.notebook_md.read_text() == "- 2026-01-02: it is slow\n"
    build_notebook(book)
    page = run.notebook_md.read_text()
    assert "# run_1" in page
    assert page.endswith("-->\n\n- 2026-01-02: it is slow\n")


def _write_notes(book: Path, who: int) -> None:
    for number in range(8):
        write_note(book, ["run_1"], f"note {number} of {who}")


def _build(book: Path, times: int) -> None:
    for number in range(times):
        # The generated part must change, or building writes nothing.
        with (book / "runs" / "run_1" / "run.yaml").open("a") as file:
            file.write(f"seed: {number}\n")
        build_notebook(book)


def test_notes_of_several_processes_are_all_kept_while_the_page_is_built(book: Path) -> None:
    run = make_run(book, "run_1")
    fork = multiprocessing.get_context("fork")
    writers = [fork.Process(target=_write_notes, args=(book, who)) for who in range(3)]
    writers.append(fork.Process(target=_build, args=(book, 12)))
    for one in writers:
        one.start()
    for one in writers:
        one.join(60)
        assert one.exitcode == 0
    page = run.notebook_md.read_text()
    assert all(f"note {n} of {who}\n" in page for n in range(8) for who in range(3))
    assert page.count("<!-- tunebook:end") == 1


def test_a_form_that_is_older_than_the_file_erases_nothing(book: Path) -> None:
    run = RunFolder(book, "a")
    run.path.mkdir(parents=True)
    run.run_yaml.write_text("name: a\nextends: b\nnotebook: {hypothesis: first}\n")
    client = client_of(book)
    shown = client.get("/runs/a").text
    assert ">first</textarea>" in shown
    (file_hash,) = re.findall(r'name="file_hash" value="(\w+)"', shown)
    run.run_yaml.write_text("name: a\nextends: b\nnotebook: {hypothesis: second}\n")
    form = {"hypothesis": "third", "file_hash": file_hash}
    answer = client.post("/runs/a/hypothesis", data=form, headers=IN_PLACE)
    assert answer.status_code == 409
    assert "was changed since" in answer.text
    assert "second" in run.run_yaml.read_text()


def test_a_run_that_cannot_be_read_takes_a_note_that_says_why(book: Path) -> None:
    run = make_run(book, "run_1")
    (run.events / "x.jsonl").write_text("rubbish\n")
    write_note(book, ["run_1"], "the disk broke", day=date(2026, 1, 2))
    assert run.notebook_md.read_text() == "- 2026-01-02: the disk broke\n"


def test_words_saved_in_the_moment_of_a_start_are_refused_and_not_overwritten(
    book: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (book / "x.txt").write_text("a line\n" * 40)
    new_run(book, "a", ["stage=cpt", "data=[{path: ../../x.txt, format: lines}]"])
    refused: list[BaseException] = []

    def save() -> None:
        try:
            write_hypothesis(book, "a", "It learns.", [])
        except BookError as error:
            refused.append(error)

    writer = threading.Thread(target=save)
    real = train_module.forget_failed_start

    def between(run: RunFolder) -> None:
        writer.start()
        writer.join(0.3)
        real(run)

    monkeypatch.setattr(train_module, "forget_failed_start", between)
    run = start_run(book, load_recipe("a", [], book))
    writer.join(30)
    assert "has begun" in str(refused)
    assert "It learns." not in run.run_yaml.read_text()


def test_a_note_that_quotes_a_marker_hides_no_older_note_and_tag(book: Path) -> None:
    make_run(book, "run_1")
    write_note(book, ["run_1"], "first", ["spike"])
    write_note(book, ["run_1"], "why is <!-- tunebook:end there")
    (found,) = run_summaries(book)
    assert "spike" in found.tags
    assert "tunebook:end there" in str(found.note)
