"""Links in a stranger's book tell nothing of the files of whoever opens it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from made_runs import make_run
from tunebook.book.events import event_files
from tunebook.book.places import RunFolder, list_runs
from tunebook.cli.main import main
from tunebook.errors import BookError
from tunebook.web.app import make_app
from tunebook.web.offline import offline_page
from tunebook.workflows.notebook import build_notebook

SECRET = "CANARYTEXT"
LINKED = (
    "notebook.md", "run.yaml", "resolved.yaml", "seal.json", "plan.json", "data.json",
    "release.json", "train.log", "curve.svg", "heartbeat.json",
)  # fmt: skip
PAGES = ("/runs/{}", "/runs/{}/note", "/runs/{}/live", "/notebook/{}", "/notebook/{}.md",
         "/notebook/{}/curve.svg", "/runs/{}/file/run.yaml", "/runs/{}/file/resolved.yaml",
         "/runs/{}/file/train.log", "/runs/{}/hypothesis", "/lineage?run={}")  # fmt: skip


@pytest.fixture
def far(tmp_path: Path) -> Path:
    """A folder outside of the book that is laid out as a run, and holds a secret everywhere."""
    from tunebook.book.places import create_book

    other = create_book(tmp_path / "other")
    run = make_run(other, "far", predict=(f"val_loss < {SECRET}.val_loss",))
    (run.path / "notebook.md").write_text(f"# A diary\n\n{SECRET}\n")
    (run.path / "train.log").write_text(SECRET)
    (run.path / "run.yaml").write_text(
        f"name: far\nmodel: {SECRET}\n{SECRET}: 1\nnotebook: {{hypothesis: {SECRET}}}\n"
    )
    (run.path / "curve.svg").write_text(f'<svg aria-label="{SECRET}"></svg>')
    for name in ("plan.json", "release.json", "heartbeat.json", "data.json", "seal.json"):
        (run.path / name).write_text(f'{{"hypothesis": "{SECRET}", "{SECRET}": 1}}')
    (run.path / "resolved.yaml").write_text(f"recipe: {{model: {SECRET}, {SECRET}: 1}}\n")
    return run.path


def replace_by_link(run: RunFolder, name: str, far: Path) -> None:
    path = run.path / name
    path.unlink(missing_ok=True)
    path.symlink_to(far / name)


def told(book: Path, *names: str) -> list[str]:
    """Name the addresses of the server whose answer holds the secret."""
    client = TestClient(
        make_app(book), base_url="http://127.0.0.1", follow_redirects=False,
        raise_server_exceptions=True,
    )  # fmt: skip
    asked = ["/", "/runs", "/notebook", "/notebook.md", "/lineage", "/compare"]
    asked += [page.format(name) for page in PAGES for name in names]
    answers = {address: client.get(address) for address in asked}
    assert {address for address, one in answers.items() if one.status_code >= 500} == set()
    return [address for address, one in answers.items() if SECRET in one.text]


@pytest.mark.parametrize("name", LINKED)
def test_no_page_tells_what_a_link_in_a_run_leads_to(book: Path, far: Path, name: str) -> None:
    run = make_run(book, "a")
    replace_by_link(run, name, far)
    before = (far / name).read_bytes()
    build_notebook(book)
    assert told(book, "a") == []
    assert SECRET not in offline_page(book)
    pages = [p for p in (run.notebook_md, book / "notebook.md") if not p.is_symlink()]
    assert [p for p in pages if p.exists() and SECRET in p.read_text()] == []
    assert (far / name).read_bytes() == before


def test_a_run_that_waits_tells_nothing_of_a_run_file_elsewhere(book: Path, far: Path) -> None:
    run = RunFolder(book, "a")
    run.path.mkdir()
    replace_by_link(run, "run.yaml", far)
    assert told(book, "a") == []
    build_notebook(book)
    assert SECRET not in offline_page(book)


@pytest.mark.parametrize("folder", ["events", "evaluations"])
def test_folders_of_a_run_that_lead_out_are_empty(book: Path, far: Path, folder: str) -> None:
    run = make_run(book, "a")
    if folder == "events":
        for path in event_files(run):
            path.unlink()
        run.events.rmdir()
        (next((far / "events").iterdir())).write_text(
            f'{{"seq":1,"attempt":1,"time":1,"kind":"note","text":"{SECRET}"}}\n'
        )
    else:
        (far / folder).mkdir(exist_ok=True)
    (run.path / folder).symlink_to(far / folder)
    assert told(book, "a") == []


def test_no_page_tells_what_the_notebook_of_the_book_leads_to(book: Path, far: Path) -> None:
    make_run(book, "a")
    (book / "notebook.md").unlink()
    (book / "notebook.md").symlink_to(far / "notebook.md")
    before = (far / "notebook.md").read_bytes()
    said: list[str] = []
    build_notebook(book, said.append)
    assert len(said) == 1
    assert "notebook.md cannot be read: it leads out of" in said[0]
    assert (far / "notebook.md").read_bytes() == before
    assert (book / "notebook.md").is_symlink()
    assert told(book, "a") == []
    with pytest.raises(BookError, match="it leads out of"):
        offline_page(book)


def test_a_note_is_not_written_to_a_page_that_leads_out(
    book: Path, far: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(book)
    replace_by_link(make_run(book, "a"), "notebook.md", far)
    before = (far / "notebook.md").read_bytes()
    assert main(["note", "a", "hello"]) == 2
    err = capsys.readouterr().err
    assert "notebook.md cannot be read: it leads out of" in err
    assert SECRET not in err
    assert (far / "notebook.md").read_bytes() == before


def test_a_run_that_is_a_link_out_of_the_book_is_no_run_and_is_told_as_such(
    book: Path, far: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(book)
    make_run(book, "a")
    (book / "runs" / "zz").symlink_to(far)
    assert [run.name for run in list_runs(book)] == ["a"]
    assert told(book, "a", "zz") == []
    assert main(["show", "zz"]) == 2
    assert f"runs/zz is a link to {far}, which is not in the book" in capsys.readouterr().err
    assert main(["runs"]) == 0
    assert f"runs/zz is left out: a link to {far}, which is not in the book" in (
        capsys.readouterr().err
    )


def test_a_run_that_is_a_link_to_another_run_is_one(book: Path) -> None:
    make_run(book, "a")
    (book / "runs" / "alias").symlink_to("a")
    assert [run.name for run in list_runs(book)] == ["a", "alias"]


def test_a_book_whose_runs_are_elsewhere_is_shown(book: Path, tmp_path: Path) -> None:
    os.rename(book / "runs", tmp_path / "large")
    (book / "runs").symlink_to(tmp_path / "large")
    run = make_run(book, "a")
    run.notebook_md.write_text(SECRET)
    run.train_log.write_text(SECRET)
    build_notebook(book)
    assert {"/notebook/a", "/runs/a/file/train.log"} <= set(told(book, "a"))
    assert SECRET in offline_page(book)
