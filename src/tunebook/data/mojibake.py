"""Notice text that was once decoded with the wrong encoding."""

from __future__ import annotations

import re

# UTF-8 read as Latin-1 or Windows-1252: a lead byte shows as one of the first signs, and what
# follows it as a sign of 0x80-0xBF, which no language puts there. U+FFFD is what a decoder leaves.
_CONTINUATION = (
    "[\u0080-\u00bf\u20ac\u201a\u0192\u201e\u2026\u2020\u2021\u02c6\u2030\u0160\u2039\u0152\u017d"
    "\u2018\u2019\u201c\u201d\u2022\u2013\u2014\u02dc\u2122\u0161\u203a\u0153\u017e\u0178]"
)
_WRONG = re.compile(f"\ufffd|[\u00c2\u00c3]{_CONTINUATION}|\u00e2{_CONTINUATION}{_CONTINUATION}")

_SUSPECTS = ("\ufffd", "\u00c2", "\u00c3", "\u00e2")


def looks_like_mojibake(text: str) -> bool:
    """Tell whether a text holds the likes of `Ã©` for `é`, or a replacement character."""
    # Looking for single signs is many times faster than the pattern, and mostly enough.
    return not text.isascii() and any(s in text for s in _SUSPECTS) and bool(_WRONG.search(text))
