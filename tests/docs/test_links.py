"""Every link of the guide leads somewhere: files and headings, without a network."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Introductions and reports are parts of other pages, and their links are those pages'.
_PARTS = ("intro", "reports")
PAGES = sorted(
    page
    for page in [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    if page.parent.name not in _PARTS
)
_FENCE = re.compile(r"^( *)(`{3,}|~{3,})[^\n]*\n.*?^\1\2[`~]*[ \t]*$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)", re.DOTALL)
_LINK = re.compile(r"\]\(\s*<?([^()\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
_HEADING = re.compile(r"^#{1,6}[ \t]+(.+?)[ \t]*#*[ \t]*$", re.MULTILINE)
_ANCHOR = re.compile(r"<a\s+(?:id|name)=\"([^\"]+)\"")


def links_of(text: str) -> list[str]:
    """Give the addresses a page links to; what stands in code is shown and no link."""
    plain = _CODE.sub("", _FENCE.sub("", text))
    return _LINK.findall(plain)


def anchors_of(text: str) -> set[str]:
    """Give the anchors of a page's headings as forges make them, the second of a name with -1."""
    text = _FENCE.sub("", text)
    found, seen = set(_ANCHOR.findall(text)), dict[str, int]()
    for heading in _HEADING.findall(text):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", words).strip().replace(" ", "-")
        n = seen.get(slug, 0)
        seen[slug] = n + 1
        found.add(f"{slug}-{n}" if n else slug)
    return found


def broken_links(page: Path, root: Path = ROOT) -> Iterator[str]:
    """Give what is wrong with the links of a page, a sentence each."""
    text = page.read_text(encoding="utf-8")
    for address in links_of(text):
        if re.match(r"[a-z]+:", address):
            continue
        place, _, anchor = address.partition("#")
        target = (page.parent / place).resolve() if place else page
        if not target.exists():
            yield f"{address}: there is no such file"
        elif not target.is_relative_to(root):
            yield f"{address}: this leads out of the project"
        elif (
            anchor
            and target.suffix == ".md"
            and anchor not in anchors_of(target.read_text(encoding="utf-8"))
        ):
            yield f"{address}: {target.name} has no such heading"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page: Path) -> None:
    assert list(broken_links(page)) == []


def test_a_file_or_heading_that_is_gone_is_told(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# A word\n\n## `a` & b\n\n## A word\n", encoding="utf-8")
    page = tmp_path / "page.md"
    page.write_text(
        "[x](other.md) [x](other.md#a-word) [x](other.md#a--b) [x](other.md#a-word-1) "
        "`[x](gone.md)` [x](https://example.org/x)\n\n```\n[x](gone.md)\n```\n",
        encoding="utf-8",
    )
    assert list(broken_links(page, tmp_path)) == []
    page.write_text("[x](gone.md) [x](other.md#gone) ![x](a.png)\n", encoding="utf-8")
    assert [line.split(":")[0] for line in broken_links(page, tmp_path)] == [
        "gone.md",
        "other.md#gone",
        "a.png",
    ]


def test_pictures_are_small_and_shown_somewhere() -> None:
    shown = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    shown += "".join(p.read_text(encoding="utf-8") for p in (ROOT / "benchmarks").rglob("*.md"))
    for picture in (ROOT / "docs").rglob("images/*"):
        assert picture.stat().st_size < 150_000, picture.name
        assert f"images/{picture.name}" in shown, f"{picture.name} is shown nowhere"
