"""A real Chromium on a real server; a page may log no error and ask no other host for anything."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@contextmanager
def serving(book: Path, **guarded: Any) -> Iterator[str]:
    """Serve a book in this process; gives the address without a slash at its end."""
    import uvicorn

    from tunebook.web.app import make_app
    from tunebook.web.guard import Guard

    config = uvicorn.Config(
        make_app(book, Guard(**guarded)), port=0, log_level="error", lifespan="off"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
        assert thread.is_alive()
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A headless Chromium of this machine; skips where there is none.

    For one file and no longer: while Playwright runs, no other test can run an event loop.
    """
    path = next((found for name in _NAMES if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip("there is no Chromium here (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


@pytest.fixture
def open_book(chromium: Browser) -> Iterator[Callable[..., Page]]:
    """Serve a book and open a tab on it, at its address as `page.base`.

    At the end of the test every tab must have stayed without an error in its console and without a
    request to another host.
    """
    from contextlib import ExitStack

    wrong: list[str] = []
    with ExitStack() as stack:

        def open_tab(book: Path, path: str = "/", *, expect: int = 200, **options: Any) -> Page:
            address = stack.enter_context(serving(book))
            context = chromium.new_context(base_url=address, **options)
            stack.callback(context.close)
            page = context.new_page()
            page.set_default_timeout(10_000)
            page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
            page.on(
                "console",
                lambda said: (
                    wrong.append(f"console: {said.text}") if said.type == "error" else None
                ),
            )
            page.on(
                "request",
                lambda asked: (
                    wrong.append(f"asked {asked.url}")
                    if not asked.url.startswith((address, "data:", "blob:"))
                    else None
                ),
            )
            answer = page.goto(path)
            assert answer is not None
            assert answer.status == expect
            return page

        yield open_tab
    assert not wrong
