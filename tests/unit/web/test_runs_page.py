"""The table on the page is the table of `tunebook runs`: the same rows, cells and exports."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from made_runs import make_run
from tunebook.book.events import EventWriter
from tunebook.book.liveness import acquire_run
from tunebook.cli.main import main
from tunebook.records import Verdict
from tunebook.web.app import make_app
from tunebook.web.runs_rows import spark_paths
from tunebook.workflows.note import write_note


@pytest.fixture
def filled(book: Path) -> Path:
    """Two LoRA runs on the same examples, a full one on others, and one that never began."""
    make_run(book, "a", loss=2.0, method="lora", rank=8)
    make_run(book, "b", loss=1.5, method="lora", rank=16, extends="a")
    make_run(book, "c", loss=1.0, method="full", examples_hash="others")
    (book / "runs" / "d").mkdir()
    (book / "runs" / "d" / "run.yaml").write_text("name: d\n")
    return book


def page_of(book: Path, path: str = "/", status: int = 200) -> str:
    answer = TestClient(make_app(book), base_url="http://127.0.0.1").get(path)
    assert answer.status_code == status
    return answer.text


def names_in(page: str) -> list[str]:
    return re.findall(r'<tr data-row id="row-([^"]+)">', page)


def text_of(page: str, start: str) -> str:
    """Give the words of the table's row that begins with `start`."""
    row = page[page.index(start) :].partition("</tr>")[0]
    return " ".join(re.sub(r"<[^>]*>", " ", row).split())


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", "abcd"),
        ("?sort=val_loss", "cbad"),
        ("?sort=-val_loss", "abcd"),
        ("?filter=method=lora&filter=val_loss<1.8", "b"),
        ("?filter=&group=method&sort=val_loss", "cbad"),
        ("?filter=lora.rank>=16&columns=name,lora.rank", "bc"),
    ],
)
def test_rows_are_sorted_filtered_and_grouped_by_the_address(
    filled: Path, query: str, names: str
) -> None:
    assert names_in(page_of(filled, f"/{query}")) == list(names)


def test_a_column_is_sorted_by_a_click_and_the_other_way_by_another(filled: Path) -> None:
    page = page_of(filled, "/?filter=method=lora&sort=val_loss")
    assert (
        'aria-sort="ascending"><a id="sort-val_loss" href="/?filter=method=lora&amp;sort=-val_loss"'
        in page
    )
    assert '<a id="sort-name" href="/?filter=method=lora&amp;sort=name"' in page


def test_a_mistake_in_the_address_is_one_sentence(filled: Path) -> None:
    assert "no run has a column `val_los`; did you mean `val_loss`" in page_of(
        filled, "/?sort=val_los", 400
    ).replace("&#39;", "'")
    assert "cannot read the filter" in page_of(filled, "/?filter=what", 400)
    for text in ("method=lora or val_loss<2", "method=lora, val_loss<2"):
        assert "holds more than one; give them" in page_of(filled, f"/?filter={text}", 400)
    assert "which `low` is not" in page_of(filled, "/?filter=val_loss<low", 400)
    assert "which `` is not" in page_of(filled, "/?filter=lora.rank>=", 400)
    assert names_in(page_of(filled, "/?filter=name>=c")) == ["c", "d"]
    assert "there is no run `z`" in page_of(filled, "/?baseline=z", 404)


def test_settings_that_differ_from_the_extended_run_are_bold(filled: Path) -> None:
    page = page_of(filled, "/?columns=name,lora.rank,method")
    assert "<b>16</b>" in page
    assert page.count("<b>") == 1


def test_a_group_has_a_mean_with_its_spread_and_only_of_what_compares(filled: Path) -> None:
    page = page_of(filled, "/?group=method&columns=name,val_loss")
    assert text_of(page, '<tr class="group">') == "method full n = 1 1.000"
    assert "method lora n = 2 1.750 SD 0.354" in text_of(page, ">method lora").replace(">", "")
    page = page_of(filled, "/?group=stage&columns=name,val_loss,train_loss&filter=stage=sft")
    assert text_of(page, '<tr class="group">') == "stage sft n = 3 do not compare 1.500 SD 0.500"


def test_differences_have_a_sign_and_are_only_of_what_compares(filled: Path) -> None:
    page = page_of(filled, "/?baseline=a&columns=name,val_loss,best_step")
    assert text_of(page, '<tr data-row id="row-a">').startswith("a baseline 2.000 10 + note")
    assert text_of(page, '<tr data-row id="row-b">').startswith("b 1.500 -0.500 10 + note")
    assert text_of(page, '<tr data-row id="row-c">').startswith("c 1.000 not comparable 10 + note")
    assert 'class="change better">-0.500' in page
    assert "a difference here is not a finding" in page


def test_verdicts_are_chips_and_unconfirmed_ones_have_a_question_mark(book: Path) -> None:
    run = make_run(book, "a")
    with EventWriter(run, 2) as events:
        for kind, confidence in (("converged", "red"), ("lr_jump", "red"), ("bad_batch", "amber")):
            events.write("verdict", Verdict(kind, 3, 4, "cause", confidence, {}, "next", ()))
    page = page_of(book)
    assert text_of(page, '<td class="chips">').startswith("lr_jump bad_batch? 20")
    assert '<span class="chip warn" title="' in page


@pytest.mark.parametrize("form", ["md", "csv", "json"])
@pytest.mark.parametrize(
    ("query", "arguments"),
    [
        ("", []),
        (
            "?filter=stage=sft&columns=name,lora.rank,val_loss&sort=-val_loss",
            [
                "--filter",
                "stage=sft",
                "--columns",
                "name,lora.rank,val_loss",
                "--sort",
                "-val_loss",
            ],
        ),
        ("?group=method&baseline=a", ["--group", "method", "--baseline", "a"]),
    ],
)
def test_an_export_is_what_the_command_prints(
    filled: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    form: str,
    query: str,
    arguments: list[str],
) -> None:
    monkeypatch.chdir(filled)
    assert main(["runs", "--format", form, *arguments]) == 0
    assert page_of(filled, f"/runs.{form}{query}") == capsys.readouterr().out
    assert f'data-copy="/runs.{form}{(query or "?").replace("&", "&amp;")}"' in page_of(
        filled, f"/{query}"
    )


def test_in_a_terminal_groups_and_differences_stand_in_the_same_table(
    filled: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(filled)
    assert main(["runs", "--columns", "name,val_loss", "--group", "method", "--baseline", "a"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "name                            val_loss",
        "method full (n = 1)                1.000",
        "c                                  1.000",
        "method lora (n = 2)     1.750 (SD 0.354)",
        "a                                  2.000",
        "b                         1.500 (-0.500)",
        "method unknown (n = 1)",
        "d",
    ]


def test_an_empty_book_says_how_to_start(book: Path) -> None:
    assert "tunebook new my_first" in page_of(book)


def test_a_table_asks_again_and_is_sent_only_when_something_is_new(filled: Path) -> None:
    page = page_of(filled)
    assert 'hx-trigger="every 10s"' in page
    again = (re.search(r'id="runs-poll" hx-get="([^"]+)"', page) or [""])[1].replace("&amp;", "&")
    assert page_of(filled, again, 204) == ""
    run = make_run(filled, "live", state=None)
    with acquire_run(run):
        assert "live" in names_in(page_of(filled, again))
        page = page_of(filled)
        assert 'hx-trigger="every 2s"' in page
        assert "1 running" in page
        assert "running 10 of 10" in text_of(page, '<tr data-row id="row-live">')


def test_words_of_the_author_are_shown_as_text(book: Path) -> None:
    make_run(book, "a")
    write_note(book, ["a"], "<script>alert(1)</script> is the best", ["tagged"])
    page = page_of(book, "/?filter=tags=tagged&filter=name!=<script>")
    assert "&lt;script&gt;alert(1)&lt;/script&gt; is the best</span>" in page
    assert "<script>" not in page
    assert ">#tagged</a>" in page


def test_a_spike_of_one_step_is_a_peak_of_the_small_curve() -> None:
    flat = ((1.0, 1.0),) * 10
    path, words = spark_paths((*flat, (1.0, 9.0), *flat)) or ("", "")
    heights = [float(point.split()[1]) for point in path.strip("MZ").split("L")]
    assert sum(height < 5 for height in heights) == 1
    assert words == "training loss from 1 to 1, highest 9"
