"""Generated text between markers; everything the author writes outside of them is kept."""

from __future__ import annotations

import hashlib
import re

END = "<!-- tunebook:end (write below: what stands outside these markers is never changed) -->"

_MARK = "<!-- tunebook:"
_LINE = r"<!-- tunebook:{}\b(?:(?!-->)[^\r\n])*-->[ \t]*\r?$"
_BEGIN_LINE = re.compile(r"^(?:# )?" + _LINE.format("begin"), re.MULTILINE)
_END_LINE = re.compile("^" + _LINE.format("end"), re.MULTILINE)
_FRONT = re.compile(r"^---[ \t]*\r?\n\Z", re.MULTILINE)


def merge_page(generated: str, existing: str | None) -> str:
    """Put newly generated text where the old one stood.

    Everything outside the markers is kept byte for byte. When the markers are missing, doubled or
    out of order, the whole old page is kept below the new text: nothing is ever lost.
    """
    region = _wrap(generated)
    if existing is None:
        return f"{region}\n"
    place = _find_region(existing)
    if place is None:
        return f"{region}\n\n{existing}" if existing else f"{region}\n"
    start, stop = place
    return existing[:start] + region + existing[stop:]


def author_words(page: str) -> str:
    """Return what stands outside the markers."""
    place = _find_region(page)
    return page if place is None else page[: place[0]] + page[place[1] :]


def generated_part(page: str) -> str:
    """Return what stands between the markers, front matter included; empty without them."""
    place = _find_region(page)
    if place is None:
        return ""
    region = page[place[0] : place[1]]
    return _END_LINE.sub("", _BEGIN_LINE.sub("", region)).strip("\r\n")


def _wrap(generated: str) -> str:
    # What looks like a marker in the generated text is text: one space makes it so.
    body = generated.replace(_MARK, _MARK[:-1] + " :").strip("\r\n")
    front, body = ("---\n# ", body[4:]) if body.startswith("---\n") else ("", body)
    # Front matter must come first on a page, so the marker hides in it as a comment.
    begin = f"{_MARK}begin {_digest(body)} (written by tunebook, replaced at every build) -->"
    return f"{front}{begin}\n{body}\n\n{END}"


def _digest(body: str) -> str:
    text = body.replace("\r\n", "\n").strip("\n")
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _find_region(page: str) -> tuple[int, int] | None:
    """Find the generated part: the only one there is, or the first that is as it was written.

    The hash in the marker tells tunebook's own text from words that stand between markers which
    somebody copied, and from text whose end marker was lost.
    """
    found = []
    for begin in _BEGIN_LINE.finditer(page):
        # Only the very next marker can end it; to search for an end from every beginning takes the
        # square of a page's length.
        end = _END_LINE.match(page, max(page.find(_MARK, begin.end()), 0))
        if end is None or end.start() < begin.end():
            continue
        start = _region_start(page, begin)
        if start is None:
            continue
        place = start, end.end() - end.group().endswith("\r")
        if f"begin {_digest(page[begin.end() : end.start()])} " in begin.group():
            return place
        found.append(place)
    return found[0] if found and page.count(_MARK) == 2 else None


def _region_start(page: str, begin: re.Match[str]) -> int | None:
    if not begin.group().startswith("# "):
        return begin.start()
    line = page.rfind("\n", 0, max(begin.start() - 1, 0)) + 1
    front = _FRONT.match(page, line, begin.start())
    return front.start() if front else None
