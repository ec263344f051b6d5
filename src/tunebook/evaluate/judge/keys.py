"""A key is a secret: it has a place in the environment, and is taken out of what others say."""

from __future__ import annotations

import base64
import html
import json
import os
import re
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

MASK = "[key]"
_LEAST = 8  # letters of a key that give it away; less is any word
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def is_variable_name(text: str) -> bool:
    """Tell whether text names an environment variable, and is not a key itself.

    Whatever is set is a name. Else keys are known by their digits among small letters, or by
    letters and digits in a row as no name has them.
    """
    if not _NAME.fullmatch(text):
        return False
    if text in os.environ or len(text) < 2 * _LEAST:
        return True
    mixed = any(c.isdigit() for c in text) and (text != text.upper() or "_" not in text)
    return not mixed and len(text) <= 5 * _LEAST


def hide_key(key: str, text: str) -> str:
    """Take a key out of text, as it is and as it is written in addresses, JSON, HTML and base64.

    Small and capital letters are the same; a form that is broken off is taken out from eight
    letters on. A key of fewer letters is only looked for as it is: it may be any word.
    """
    if len(key) < _LEAST:
        return text.replace(key, MASK) if key else text
    forms = sorted(set(_forms(key)), key=len, reverse=True)
    begins = "|".join(sorted({re.escape(form[:_LEAST]) for form in forms}))
    shown, at = [], 0
    for begin in re.finditer(f"(?=({begins}))", text, re.IGNORECASE | re.ASCII):
        if begin.start() >= at:
            shown += [text[at : begin.start()], MASK]
            at = begin.start() + max(_alike(form, text, begin.start()) for form in forms)
    return "".join((*shown, text[at:]))


def _forms(key: str) -> Iterator[str]:
    yield key
    yield quote(key)
    yield quote(key, safe="")
    yield quote_plus(key)
    in_json = json.dumps(key)[1:-1]
    yield in_json
    yield in_json.replace("/", "\\/")
    yield "".join(c if c.isalnum() else f"\\u{ord(c):04x}" for c in key)
    yield html.escape(key)
    yield key.encode().hex()
    # What stands before a key moves the bits by which base64 writes it, in one of three ways.
    for before, mixed in ((0, 0), (1, 2), (2, 3)):
        coded = base64.b64encode(b"\0" * before + key.encode())[mixed:].decode().rstrip("=")
        yield coded
        yield coded.replace("+", "-").replace("/", "_")


def _alike(form: str, text: str, start: int) -> int:
    """Count the letters from `start` on that are those of a form."""
    there = text[start : start + len(form)]
    for n, (one, other) in enumerate(zip(form, there, strict=False)):
        if one != other and one.lower() != other.lower():
            return n
    return len(there)
