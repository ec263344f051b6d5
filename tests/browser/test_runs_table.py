"""The table of runs as people use it: what they click shows, stays and is in the address."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from made_runs import make_run, make_step
from tunebook.book.events import EventWriter
from tunebook.book.liveness import acquire_run
from tunebook.cli.main import main
from tunebook.workflows.note import write_note

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser
OpenBook = Callable[..., "Page"]

NEXT_LOOK_IS_PUT_OFF = """() => new Promise((tell) =>
  document.addEventListener("htmx:beforeRequest", (event) =>
    event.target.id === "runs-poll" && setTimeout(() => tell(event.defaultPrevented))))"""


@pytest.fixture
def filled(book: Path) -> Path:
    make_run(book, "a", loss=2.0, method="lora", rank=8)
    make_run(book, "b", loss=1.5, method="lora", rank=16, extends="a")
    make_run(book, "c", loss=1.0, method="full")
    return book


def rows_of(page: Page) -> list[str]:
    return page.locator("tr[data-row] th").all_inner_texts()


def test_what_is_sorted_filtered_and_grouped_is_in_the_address_and_stays(
    filled: Path, open_book: OpenBook
) -> None:
    page = open_book(filled)
    page.click("#sort-val_loss")
    page.wait_for_url("**/?sort=val_loss")
    assert rows_of(page) == ["c", "b", "a"]
    page.press("body", "/")
    page.keyboard.type("method=lora")
    page.keyboard.press("Enter")
    page.wait_for_url("**/?filter=method=lora&sort=val_loss")
    assert rows_of(page) == ["b", "a"]
    page.select_option("#group", "lora.rank")
    page.wait_for_url("**group=lora.rank")
    page.wait_for_selector("body:not(:has(.htmx-request, .htmx-swapping, .htmx-settling))")
    page.select_option("#baseline", "a")
    page.wait_for_url("**baseline=a")
    assert "-0.500" in page.inner_text("#row-b")
    page.reload()
    assert rows_of(page) == ["a baseline", "b"]
    assert page.locator("tr.group").count() == 2
    page.go_back()
    page.locator(".against").wait_for(state="detached")
    page.click('[aria-label="Remove the filter method=lora"]')
    page.locator("#row-c").wait_for()
    page.click("summary >> text=Columns")
    page.uncheck("text=perplexity")
    page.check("text=judge")
    page.click("text=Show these")
    page.locator("#sort-judge").wait_for()
    assert page.locator("#sort-perplexity").count() == 0
    assert "sort=val_loss&group=lora.rank" in page.url


def test_a_note_is_added_in_its_row_and_stands_in_the_notebook(
    filled: Path, open_book: OpenBook
) -> None:
    page = open_book(filled, "/?filter=method=lora")
    page.click("#note-b .add")
    page.locator("#note-text-b:focus").wait_for()
    page.keyboard.type("<script>alert(1)</script> learns faster")
    page.fill("#note-tags-b", "spike")
    page.click("#note-b button")
    page.locator("#note-b .tag", has_text="#spike").wait_for()
    assert "<script>alert(1)</script> learns faster" in page.inner_text("#note-b")
    assert "learns faster #spike\n" in (filled / "runs" / "b" / "notebook.md").read_text()
    page.click("#note-b .tag >> text=#spike")
    page.wait_for_url("**/?filter=method=lora&filter=tags=spike")
    assert rows_of(page) == ["b"]


def test_what_is_copied_is_what_the_command_prints(
    filled: Path,
    open_book: OpenBook,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(filled)
    assert main(["runs", "--sort", "val_loss", "--format", "md"]) == 0
    printed = capsys.readouterr().out
    page = open_book(filled, "/?sort=val_loss", permissions=["clipboard-read", "clipboard-write"])
    page.click("summary >> text=Copy")
    page.click("text=Copy Markdown")
    page.locator("#said", has_text="copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == printed


def test_rows_are_chosen_and_compared_by_keys_and_stay_chosen(
    filled: Path, open_book: OpenBook
) -> None:
    page = open_book(filled)
    page.press("body", "c")
    page.locator("#said[role=alert]", has_text="choose 2 to 10 runs").wait_for()
    page.keyboard.press("Escape")
    page.locator("#said:empty").wait_for(state="attached")
    for key in "jxjjkx":
        page.keyboard.press(key)
    page.wait_for_url("**/?run=a&run=b")
    page.reload()
    page.click("#sort-name")
    page.wait_for_url("**/?sort=name&run=a&run=b")
    assert page.inner_text("#compare-button") == "Compare 2"
    page.press("body", "c")
    page.wait_for_url("**/compare?run=a&run=b")


def test_enter_unfolds_what_has_the_focus_and_opens_a_row_that_is_chosen(
    filled: Path, open_book: OpenBook
) -> None:
    page = open_book(filled)
    page.locator("tr[data-row]").first.wait_for()
    menu = page.locator("details.menu").first
    page.press("body", "j")
    menu.locator("summary").focus()
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelector('details.menu').open")
    page.keyboard.press("Enter")
    page.evaluate("() => document.activeElement.blur()")
    page.keyboard.press("Enter")
    page.wait_for_url("**/runs/*")


def test_a_running_run_moves_on_its_own_and_nothing_that_was_begun_is_lost(
    filled: Path, open_book: OpenBook
) -> None:
    run = make_run(filled, "live", state=None, steps=10)
    with acquire_run(run), EventWriter(run, 2) as events:
        page = open_book(filled)
        page.evaluate("window.stayed = true")
        page.press("body", "j")
        page.keyboard.press("x")
        page.focus("#open-b")
        events.write("facts", {"steps": 20})
        events.write("step", make_step(11, 1.25))
        page.locator("#row-live", has_text="11 of 20").wait_for()
        assert page.evaluate("document.activeElement.id") == "open-b"
        assert page.is_checked("#pick-a")
        assert page.get_attribute("#row-a", "aria-selected") == "true"
        page.click("#note-b .add")
        page.locator("#note-text-b:focus").wait_for()
        page.keyboard.type("half a no")
        events.write("step", make_step(12, 1.25))
        assert page.evaluate(NEXT_LOOK_IS_PUT_OFF)
        assert page.input_value("#note-text-b") == "half a no"
        page.click("#note-b >> text=Cancel")
        page.locator("#row-live", has_text="12 of 20").wait_for()
        assert page.evaluate("window.stayed") is True


def test_on_a_phone_nothing_but_the_table_is_wider_than_the_screen(
    filled: Path, open_book: OpenBook
) -> None:
    write_note(filled, ["a"], "a long word " + "x" * 200)
    page = open_book(filled, "/?baseline=a&group=method", viewport={"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.click("summary >> text=Columns")
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_nobody_is_kept_out_of_the_table(filled: Path, open_book: OpenBook) -> None:
    from axe_playwright_python.sync_playwright import Axe

    for theme in ("light", "dark"):
        page = open_book(filled, "/?baseline=a&group=method&filter=method!=x", color_scheme=theme)
        page.click("#note-b .add")
        page.locator("#note-text-b").wait_for()
        page.click("summary >> text=Columns")
        found = Axe().run(page).response["violations"]
        assert [(one["id"], one["nodes"][0]["html"]) for one in found] == []
