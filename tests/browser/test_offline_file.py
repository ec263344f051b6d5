"""The book as one file, opened from the disk with scripts and the network off."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from made_runs import make_run
from tunebook.web.offline import write_offline
from tunebook.workflows.notebook import build_notebook

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

EVIL = "<script>document.title='run'</script><img src=x onerror=alert(1)>"


@pytest.fixture
def whole(book: Path) -> Path:
    make_run(book, "a", predict=("val_loss < 3", f"{EVIL} < 2"), model=f"'{EVIL}'")
    b = make_run(book, "b", extends="a")
    words = f"- 2026-01-02: {EVIL} [run it](javascript:alert(1)) [a](../a/notebook.md) #x\n"
    b.notebook_md.write_text(words, encoding="utf-8")
    build_notebook(book, drawing_seconds=math.inf)
    svg = b.curve_svg.read_text(encoding="utf-8")
    b.curve_svg.write_text(svg.replace("<defs>", "<script>alert(1)</script><defs>", 1))
    path = book / "it.html"
    write_offline(book, path)
    return path


def open_file(chromium: Browser, path: Path, **options: object) -> tuple[Page, list[str]]:
    wrong: list[str] = []
    page = chromium.new_context(**options).new_page()  # type: ignore[arg-type]
    page.on("console", lambda said: wrong.append(f"{said.type}: {said.text}"))
    page.on("dialog", lambda asked: wrong.append(f"dialog: {asked.message}"))
    page.on(
        "request",
        lambda asked: (
            None if asked.url.startswith(("data:", path.as_uri())) else wrong.append(asked.url)
        ),
    )
    page.goto(path.as_uri())
    return page, wrong


def test_the_file_reads_whole_with_scripts_and_network_off(chromium: Browser, whole: Path) -> None:
    page, wrong = open_file(chromium, whole, java_script_enabled=False, offline=True)
    page.get_by_role("navigation", name="Pages of runs").get_by_role("link", name="b").click()
    assert page.url.endswith("#run-b")
    figures = page.get_by_role("img")
    assert figures.count() == 2
    assert "Loss of a; training 2.900 to 2.000" in (figures.last.get_attribute("alt") or "")
    assert all(box and box["height"] > 200 for box in (f.bounding_box() for f in figures.all()))
    page.locator("article#run-b .own").get_by_role("link", name="a", exact=True).click()
    assert page.url.endswith("#run-a")
    assert page.locator("article#run-a .chips").get_by_text("held").count() == 1
    assert wrong == []
    page.context.close()


def test_nothing_in_the_file_runs_and_no_id_is_there_twice(chromium: Browser, whole: Path) -> None:
    page, wrong = open_file(chromium, whole)
    assert page.title() == "mybook · tunebook"
    assert page.locator("script").count() == 0
    assert page.get_by_text("onerror=alert(1)").count() > 2
    assert page.locator("[href^='javascript:']").count() == 0
    ids = page.locator("[id]").evaluate_all("nodes => nodes.map(node => node.id)")
    assert len(ids) == len(set(ids))
    links = page.locator("a[href^='#']").evaluate_all("n => n.map(a => a.hash.slice(1))")
    assert set(links) <= set(ids)
    assert wrong == []
    page.context.close()


def test_the_file_has_no_serious_accessibility_fault_and_fits_a_phone(
    chromium: Browser, whole: Path
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    # The checker is a script, which the file itself forbids.
    phone = {"viewport": {"width": 390, "height": 800}, "color_scheme": "dark"}
    page, _ = open_file(chromium, whole, bypass_csp=True, **phone)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    found = Axe().run(page).response["violations"]
    assert [v["id"] for v in found if v["impact"] in ("serious", "critical")] == []
    page.context.close()
