from __future__ import annotations

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from made_runs import make_run
from tunebook.web.app import make_app
from tunebook.web.book_markdown import page_of, render, sections
from tunebook.workflows.new import new_run
from tunebook.workflows.note import write_note
from tunebook.workflows.notebook import build_notebook


@pytest.fixture
def client(book: Path) -> TestClient:
    make_run(book, "run_1", predict=("val_loss < 1", "val_loss > 1", "judge > 3"))
    make_run(book, "run_2", state="running", predict=("val_loss < 9",))
    build_notebook(book)
    return TestClient(make_app(book), base_url="http://127.0.0.1")


@pytest.mark.parametrize(
    ("href", "url"),
    [
        ("../run_2/notebook.md", "/notebook/run_2"),
        ("../../runs/run_2/notebook.md#loss", "/notebook/run_2"),
        ("../../notebook.md", "/notebook"),
        ("../run_2", "/runs/run_2"),
        ("https://example.org/a?b=1", "https://example.org/a?b=1"),
        ("../../../etc/passwd", None),
        ("..%2f..%2f..%2fetc/passwd", None),
        ("evaluations/loss-final.jsonl", None),
        ("//evil.example/x", None),
        ("/runs/run_2", None),
        ("javascript:alert(1)", None),
    ],
)
def test_a_link_of_a_page_leads_to_a_page_or_nowhere(href: str, url: str | None) -> None:
    assert page_of(href, "run_1") == url


def test_links_of_the_index_page_lead_to_pages() -> None:
    assert render("[a](runs/a/notebook.md)") == '<p><a href="/notebook/a">a</a></p>\n'


def test_only_pictures_of_the_runs_own_folder_are_shown() -> None:
    shown = str(render("![loss](curve.svg)", "run_1"))
    assert '<img src="/notebook/run_1/curve.svg" alt="loss"' in shown
    for source in ("https://evil.example/a.svg", "../run_2/curve.svg", "run.yaml", "a%2fb.svg"):
        assert "<img" not in render(f"![loss]({source})", "run_1")
    assert "![loss](curve.svg)" in render("![loss](curve.svg)")


def test_markup_in_markdown_is_shown_and_never_used() -> None:
    text = (
        '<script>alert(1)</script> [x](<javascript:alert(2)>) !["><b>](<x" onerror="a>)\n\n'
        "```mermaid\n</a><script>\n```\n\n```\n</code><script>\n```\n\n"
        "| a |\n|--:|\n| <i> |\n"
    )
    shown = str(render(text, "run_1"))
    for markup in ("<script", "<i>", "<b>", "style=", 'href="javascript', 'onerror="'):
        assert markup not in shown
    assert '<td class="n">&lt;i&gt;</td>' in shown
    assert '<a href="/lineage?run=run_1">' in shown


def test_sections_are_headings_and_not_what_looks_like_one() -> None:
    assert sections("# a\n\n## Plan & b\n\n```\n## no\n```\n") == [("plan-b", "Plan & b")]
    assert 'id="plan-b"' in render("## Plan & b")


def test_the_authors_words_stand_apart_from_what_is_generated(
    client: TestClient, book: Path
) -> None:
    write_note(book, ["run_1"], "remember <b>this</b>")
    page = client.get("/notebook/run_1").text
    own = page[page.index('<aside class="own"') : page.index("</aside>")]
    assert "remember &lt;b&gt;this&lt;/b&gt;" in own
    assert "Predictions" not in own
    assert "tunebook:begin" not in page
    assert "<dt>outcome</dt><dd>1 of 3 held, 1 unknown</dd>" in page


def test_markdown_is_what_lies_in_the_book(client: TestClient, book: Path) -> None:
    page = (book / "runs" / "run_1" / "notebook.md").read_text()
    assert client.get("/notebook/run_1.md").text == page
    assert client.get("/notebook.md").text == (book / "notebook.md").read_text()


def test_a_run_without_a_page_gets_one_for_the_answer(client: TestClient, book: Path) -> None:
    make_run(book, "run_3")
    assert "val_loss" in client.get("/notebook/run_3").text
    assert not (book / "runs" / "run_3" / "notebook.md").exists()


def test_what_is_open_in_the_book_is_told_with_what_waits(client: TestClient, book: Path) -> None:
    new_run(book, "run_4", ["notebook.hypothesis=<i>Small</i> is enough."], "run_1")
    page = client.get("/notebook").text
    questions = page[page.index("<h2>Open questions") : page.index("<h2>Open predictions")]
    predictions = page[page.index("<h2>Open predictions") : page.index("<h2>To try")]
    to_try = page[page.index("<h2>To try") : page.index("<h2>History")]
    assert "val_loss &lt; 1" in questions
    assert "judge &gt; 3" in questions
    assert "val_loss &gt; 1" not in questions
    assert "val_loss &lt; 9" in predictions
    assert "holding" in predictions
    assert "tunebook train run_4" in to_try
    assert "&lt;i&gt;Small&lt;/i&gt; is enough." in to_try


def test_a_picture_is_served_from_the_runs_folder_alone_and_runs_nothing(
    client: TestClient, book: Path
) -> None:
    folder = book / "runs" / "run_1"
    (folder / "curve.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (folder / "linked.svg").symlink_to(book / "tunebook.yaml")
    answer = client.get("/notebook/run_1/curve.svg")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/svg+xml"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "sandbox" in policy
    assert "script-src" not in policy
    for path in (
        "/notebook/run_1/run.yaml", "/notebook/run_1/linked.svg", "/notebook/run_1/none.svg",
        "/notebook/run_2/../run_1/curve.svg%00", "/notebook/run_1/..%2frun_1%2fcurve.svg",
        "/notebook/..%2f..%2ftunebook.yaml", "/notebook/%2e%2e/curve.svg", 
        "/notebook/%2e%2e.md", "/notebook/a%00.md",
        "/notebook/run_1/%2e%2e%2fcurve.svg", "/notebook/none",
    ):  # fmt: skip
        assert client.get(path).status_code == 404, path
