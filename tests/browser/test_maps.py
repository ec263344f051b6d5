"""Drawings of the book can be followed by mouse and by keyboard, and read on a phone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from made_chess import even_grid, make_chess, make_grid
from made_runs import make_run
from tunebook.book.places import create_book
from tunebook.workflows.note import write_note

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

Open = Callable[..., "Page"]


@pytest.fixture(scope="module")
def shown_book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A family of runs, one with a grid and one with chess, and a model of an unkind name."""
    book = create_book(tmp_path_factory.mktemp("maps") / "mybook")
    make_run(book, "run_0", loss=2.5, predict=("val_loss < 1",))
    for number in range(1, 9):
        make_run(book, f"run_{number}", extends="run_0", rank=2**number, loss=2 + number / 10)
    make_run(book, "run_9", model="<script>document.title='taken'</script>")
    make_grid(make_run(book, "gridded", model="run:run_0"), even_grid() | {(0.5, 1.0, 1.0): 0.1})
    make_chess(make_run(book, "player"), 0.8, 520)
    picture = "<img src=x onerror=\"document.title='taken'\"> ![x](http://a.example/b.png)"
    write_note(book, ["run_0"], picture)
    return book


def test_the_lineage_is_followed_to_a_parent_by_mouse(shown_book: Path, open_book: Open) -> None:
    page = open_book(shown_book, "/lineage?run=run_3")
    node = page.locator('svg a[data-node="run_0"]')
    node.hover()
    page.wait_for_function(
        "() => document.getElementById('about').textContent.startsWith('run_0:')"
    )
    assert page.locator(".edge.lit").count() == 2
    node.click()
    page.wait_for_url("**/runs/run_0")


def test_the_lineage_is_followed_to_a_parent_by_keyboard(shown_book: Path, open_book: Open) -> None:
    page = open_book(shown_book, "/lineage?run=run_3")
    assert page.locator("svg [data-node=run_4]").count() == 0
    page.focus(".map")
    for _ in range(8):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.dataset.node") == "run_0":
            break
    assert "finished; val_loss 2.500" in page.inner_text("#about")
    page.keyboard.press("Enter")
    page.wait_for_url("**/runs/run_0")


def test_the_lineage_is_copied_as_mermaid(shown_book: Path, open_book: Open) -> None:
    page = open_book(shown_book, "/lineage", permissions=["clipboard-read", "clipboard-write"])
    page.click("text=Copy as Mermaid")
    page.locator("#said", has_text="copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()").startswith("graph TD")


def test_the_notebook_leads_to_a_run_and_shows_no_picture_of_others(
    shown_book: Path, open_book: Open
) -> None:
    page = open_book(shown_book, "/notebook")
    assert "val_loss < 1" in page.inner_text("text=Open questions >> xpath=..")
    page.click('.words a[href="/notebook/run_0"]')
    page.wait_for_url("**/notebook/run_0")
    assert "![x](http://a.example/b.png)" in page.inner_text(".own")
    assert "onerror" in page.inner_text(".own")
    page.get_by_role("link", name="Run", exact=True).click()
    page.wait_for_url("**/runs/run_0")
    assert page.title() != "taken"


def test_a_line_of_the_sweep_and_its_row_point_at_each_other(
    shown_book: Path, open_book: Open
) -> None:
    page = open_book(shown_book, "/sweep?filter=lora.rank=2..32&columns=lora.rank")
    page.hover("tr[data-lights=run_2]")
    assert page.get_attribute("a.lit", "data-line") == "run_2"
    page.click('svg a[aria-label="Keep runs with lora.rank 8"]')
    page.wait_for_url("**filter=lora.rank%3D8.0**")
    assert page.locator("main >> text=run_3").count() > 0
    assert page.locator("main >> text=run_2").count() == 0


def test_a_grid_and_chess_are_read_from_their_drawings(shown_book: Path, open_book: Open) -> None:
    page = open_book(shown_book, "/grid/gridded")
    cell = page.locator('g[data-about^="temperature 0.5, top-p 1, penalty 1:"]')
    said = cell.text_content() or ""
    assert "★ 0.100" in said
    assert "0.080 to 0.120" in said
    page.goto("/chess")
    assert "Elo: 520 (450 to 600)" in (page.text_content("main") or "")
    assert page.locator("polygon.band").count() == 1


PAGES = ("/lineage", "/sweep", "/grid/gridded", "/chess", "/notebook", "/notebook/run_0")


def test_nothing_is_cut_on_a_phone(shown_book: Path, open_book: Open) -> None:
    page = open_book(shown_book, viewport={"width": 390, "height": 800})
    for path in PAGES:
        page.goto(path)
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 390, f"{path} is {wide} wide"
        assert page.title() != "taken"


def test_axe_finds_no_serious_fault(shown_book: Path, open_book: Open) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page = open_book(shown_book)
    for path in PAGES:
        page.goto(path)
        serious = [
            (fault["id"], [node["html"][:200] for node in fault["nodes"]])
            for fault in Axe().run(page).response["violations"]
            if fault["impact"] in ("serious", "critical")
        ]
        assert serious == [], path
