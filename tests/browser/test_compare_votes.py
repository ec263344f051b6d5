"""Two runs beside each other, and blind votes, in a real browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe

from made_evaluations import make_answers, make_evaluation
from made_runs import make_run
from tunebook.book.evaluations import read_log

if TYPE_CHECKING:
    from playwright.sync_api import Page

    Open = Callable[..., Page]

pytestmark = pytest.mark.browser

N = 6
PHONE = {"viewport": {"width": 390, "height": 800}}


@pytest.fixture
def two(book: Path) -> Path:
    """Two runs, evaluated and with answers, the second half a nat worse."""
    for name, shift, said in (("calm_run", 0.0, "good"), ("wild_run", 0.5, "poor")):
        run = make_run(book, name, rank=8 if shift else 16)
        drawn = np.random.default_rng(0).uniform(1, 3, 30)
        noise = np.random.default_rng(int(shift * 10)).normal(0, 0.05, 30)
        make_evaluation(run, (drawn + noise + shift).tolist(), unit="nats per target token")
        make_answers(run, [f"{said} <script>window.ran = {i}</script>" for i in range(N)])
    return book


def faults(page: Page) -> list[str]:
    found = Axe().run(page).response["violations"]
    return [one["id"] for one in found if one["impact"] in ("serious", "critical")]


def fits(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


def await_question(page: Page, number: int) -> None:
    """Wait until a question is there, and for as long as a double click would take."""
    page.get_by_text(f"question {number} of {N}").wait_for()
    page.locator("html[data-ready]").wait_for(state="attached")


def test_two_runs_are_chosen_and_compared_in_three_words(two: Path, open_book: Open) -> None:
    page = open_book(two, "/compare", **PHONE)
    page.get_by_label("calm_run").check()
    page.get_by_label("wild_run").check()
    page.get_by_role("button", name="Compare").click()
    verdict = page.locator("#by-loss td.verdict")
    verdict.get_by_text("different", exact=True).wait_for()
    assert "calm_run is better" in verdict.inner_text()
    assert page.locator("#by-loss svg.dots circle").count() == 3
    assert page.locator("th", has_text="lora.rank").count() == 1
    page.locator("[data-curves] canvas").first.wait_for()
    assert fits(page)
    assert faults(page) == []


def test_a_refusal_stands_where_its_scores_would(two: Path, open_book: Open) -> None:
    other = make_run(two, "other_run")
    lines = [{"item_hash": f"x{i}"} for i in range(30)]
    make_evaluation(other, [2.0] * 30, lines=lines, examples="e2")
    page = open_book(two, "/compare?run=calm_run&run=other_run")
    page.get_by_role("alert").get_by_text("different-validation-set").wait_for()
    page.locator("[data-curves] canvas").first.wait_for()


def test_votes_by_key_and_by_mouse_are_in_the_log(two: Path, open_book: Open) -> None:
    page = open_book(two, "/side?run=calm_run&run=wild_run&blind=1")
    theme = page.evaluate("document.documentElement.dataset.theme || ''")
    for place, key in enumerate("12ts", start=1):
        await_question(page, place)
        assert "calm_run" not in page.content()
        assert "wild_run" not in page.content()
        page.keyboard.press(key)
    await_question(page, 5)
    assert page.evaluate("document.documentElement.dataset.theme || ''") == theme
    assert faults(page) == []
    page.get_by_role("button", name="1 is better").dblclick(delay=60)
    await_question(page, 6)
    page.go_back()
    await_question(page, 6)
    page.get_by_role("button", name="2 is better").click()
    page.get_by_role("heading", name="What the votes came to").wait_for()
    (log,) = (two / "runs" / "calm_run" / "evaluations").glob("votes-*.jsonl")
    assert [row["vote"] for row in read_log(log)] == ["1", "2", "t", "s", "1", "2"]


def test_answers_are_text_on_a_phone_too(two: Path, open_book: Open) -> None:
    page = open_book(two, "/side?run=calm_run&run=wild_run", **PHONE)
    assert page.locator("article").count() == 2 * N
    assert "<script>window.ran = 3</script>" in page.locator("article").nth(6).inner_text()
    assert page.evaluate("window.ran === undefined")
    assert page.locator("del", has_text="good").count() == N
    assert fits(page)
    assert faults(page) == []
