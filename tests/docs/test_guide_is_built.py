"""The guide is built without a warning, and asks the network for nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# What a browser fetches by itself when it shows a page; a link is followed by a reader alone.
_FETCHED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}
_LINK_KINDS = {"stylesheet", "icon", "preload", "preconnect", "dns-prefetch", "manifest"}


class Fetched(HTMLParser):
    """Collects what a page fetches."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.classes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.classes |= set((given.get("class") or "").split())
        address = given.get(_FETCHED.get(tag, ""))
        kinds = set((given.get("rel") or "").split())
        if address and (tag != "link" or kinds & _LINK_KINDS):
            self.addresses.append(address)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("material", reason="needs the extra docs")
    folder = tmp_path_factory.mktemp("guide") / "site"
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    assert "WARNING" not in built.stderr
    return folder


def test_every_page_is_built_and_fetches_only_its_own_files(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 60
    for path in pages:
        page = Fetched()
        page.feed(path.read_text(encoding="utf-8"))
        outside = [one for one in page.addresses if re.match(r"(https?:)?//", one)]
        assert outside == [], f"{path.relative_to(site)} loads {outside}"
        # The theme's script fetches what draws these.
        assert "mermaid" not in page.classes, path
    styles = [path.read_text(encoding="utf-8") for path in site.rglob("*.css")]
    assert styles
    assert not [1 for text in styles if re.search(r"(@import|url\()\s*[\"']?(https?:)?//", text)]


def test_every_page_of_docs_stands_in_the_navigation(site: Path) -> None:
    front = (site / "index.html").read_text(encoding="utf-8")
    docs = ROOT / "docs"
    apart = ("intro", "reports", "slurm")
    for path in docs.rglob("*.md"):
        if path.parent.name in apart:
            continue
        name = path.relative_to(docs).with_suffix(".html").as_posix()
        assert f'href="{name}"' in front, f"{name} is in no part of the navigation"


def test_a_file_that_is_linked_to_is_shown(site: Path) -> None:
    page = site / "repository" / "tests" / "flows" / "test_parts.py.html"
    assert "a_broken_chain_goes_on_where_it_was" in page.read_text(encoding="utf-8")
    table = (site / "capabilities.html").read_text(encoding="utf-8")
    assert 'href="repository/tests/flows/test_parts.py.html"' in table
