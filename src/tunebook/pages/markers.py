"""Generated text between markers; everything the author writes outside of them is kept."""

from __future__ import annotations

import re

BEGIN = "<!-- tunebook:begin (written by tunebook, replaced at every build) -->"
END = "<!-- tunebook:end (write below: what stands outside these markers is never changed) -->"

_BEGIN_LINE = re.compile(r"^(?:# )?<!-- tunebook:begin\b[^\r\n]*-->[ \t]*\r?$", re.MULTILINE)
_END_LINE = re.compile(r"^<!-- tunebook:end\b[^\r\n]*-->[ \t]*\r?$", re.MULTILINE)
_OWN_LINE = re.compile(r"^(?=(?:# )?<!-- tunebook:(?:begin|end)\b)", re.MULTILINE)
_FRONT = re.compile(r"---[ \t]*\r?\n\Z")


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


def _wrap(generated: str) -> str:
    # A line of the generated text that looks like a marker is text: one space makes it so.
    body = _OWN_LINE.sub(" ", generated).strip("\n")
    if body.startswith("---\n"):
        # Front matter must come first, so the marker hides in it as a comment.
        return f"---\n# {BEGIN}\n{body[4:]}\n\n{END}"
    return f"{BEGIN}\n{body}\n\n{END}"


def _find_region(page: str) -> tuple[int, int] | None:
    begins = list(_BEGIN_LINE.finditer(page))
    ends = list(_END_LINE.finditer(page))
    if not begins or not ends:
        return None
    first = begins[0]
    end = next((e for e in ends if e.start() > first.end()), None)
    if end is None:
        return None
    start = first.start()
    if first.group().startswith("# "):
        front = _FRONT.search(page, 0, start)
        if front is None:
            return None
        start = front.start()
        if start and page[start - 1] != "\n":
            return None
    alone = len(begins) == len(ends) == 1
    leading = start == 0 and not any(first.end() < b.start() < end.start() for b in begins[1:])
    if not alone and not leading:
        return None
    stop = end.end() - 1 if end.group().endswith("\r") else end.end()
    return start, stop


def author_words(page: str) -> str:
    """Return what stands outside the markers."""
    place = _find_region(page)
    return page if place is None else page[: place[0]] + page[place[1] :]
