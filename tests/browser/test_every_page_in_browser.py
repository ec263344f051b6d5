"""Every page in a real browser: hostile texts stay text, and who cannot see it can still use it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from addresses import pages
from hostile_book import make_hostile_book
from tunebook.web.app import make_app

pytestmark = pytest.mark.browser


def test_hostile_texts_are_shown_and_never_run(book: Path, open_book: Callable[..., Any]) -> None:
    addresses = pages(make_app(make_hostile_book(book)))
    tab = open_book(book)
    asked: list[str] = []
    tab.on("dialog", lambda dialog: asked.append(dialog.message) or dialog.dismiss())
    shown = 0
    for address in [*addresses, "/runs/waits", "/runs/imported"]:
        tab.goto(address)
        shown += "window.fooled" in tab.inner_text("main")
        tab.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
        assert tab.evaluate("window.fooled") is None, address
    assert shown >= 5
    assert not asked


LOOKS = (
    {"color_scheme": "light", "viewport": {"width": 1400, "height": 900}},
    {"color_scheme": "dark", "viewport": {"width": 390, "height": 800}},
)


@pytest.mark.parametrize("look", LOOKS, ids=["light and wide", "dark and narrow"])
def test_no_page_has_a_serious_fault_of_accessibility(
    book: Path, open_book: Callable[..., Any], look: dict[str, Any]
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    addresses = pages(make_app(make_hostile_book(book)))
    assert len(addresses) > 8
    tab, axe, wrong = open_book(book, **look), Axe(), []
    for address in [*addresses, "/runs/waits", "/runs/imported"]:
        tab.goto(address)
        for fault in axe.run(tab).response["violations"]:
            if fault["impact"] in ("serious", "critical"):
                wrong += [(address, fault["id"], n["html"][:160]) for n in fault["nodes"][:2]]
        wide = tab.evaluate("document.documentElement.scrollWidth")
        if wide > look["viewport"]["width"]:
            wrong.append((address, "wider than the window", str(wide)))
    assert not wrong
