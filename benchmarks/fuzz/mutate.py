"""Values and bytes that are nearly right: what a hand, a disk or an enemy makes of a valid file."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import strategies as st

ODD_TEXTS = (
    "",
    " ",
    "\0",
    "\ufeff",
    "\u202e",
    "\ud800",
    "a\nb",
    "\r",
    "\u2028",
    "💥" * 9,
    "é\u0301",
    "%s%n",
    "../../etc/passwd",
    "~root",
    "$HOME",
    "{{7*7}}",
    "<script>",
    "NaN",
    "-inf",
    "null",
    "~",
    "yes",
    "0x1F",
    "1_000",
    "1e999",
    "!!python/object/apply:os.system [id]",
    "&a [*a]",
    "*a",
    "<<: *a",
    "2026-01-01",
    "'",
    '"',
    "`",
    "\\",
    "a" * 5000,
    "9" * 400,
    "run:x",
    "hub:a/b",
    "C:\\x",
    "a/" * 99,
)
ODD_NUMBERS = (
    0,
    -1,
    1,
    2**31,
    2**63 - 1,
    2**63,
    -(2**63) - 1,
    2**64,
    10**30,
    10**400,
    0.0,
    -0.0,
    1e-320,
    1e308,
    float("inf"),
    float("-inf"),
    float("nan"),
    0.1,
    1.0000000000000002,
)

values: Any = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=20),
        st.sampled_from(ODD_TEXTS),
        st.sampled_from(ODD_NUMBERS),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)
"""Anything JSON or YAML can say, and a few things they cannot."""


def mutate_bytes(raw: bytes, rng: random.Random, times: int | None = None) -> bytes:
    """Harm some bytes: flipped, cut, doubled, swapped, overwritten, put in between."""
    changed = bytearray(raw)
    for _ in range(times or rng.choice((1, 1, 1, 2, 3, 8))):
        size = len(changed)
        at = rng.randrange(size + 1)
        kind = rng.randrange(9)
        if kind == 0 and size:
            changed[min(at, size - 1)] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del changed[at:]
        elif kind == 2:
            del changed[at : at + rng.randrange(1, 40)]
        elif kind == 3:
            changed[at:at] = changed[at : at + rng.randrange(1, 200)]
        elif kind == 4:
            changed[at:at] = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 6)))
        elif kind == 5:
            changed[at : at + 4] = rng.choice(ODD_TEXTS).encode("utf-8", "surrogatepass")
        elif kind == 6:
            changed[at:at] = rng.choice(
                (
                    b"\0",
                    b"\xff\xfe",
                    b"\xef\xbb\xbf",
                    b"\x1b[2J",
                    b"\xed\xa0\x80",
                    b"\xc0\xaf",
                    b"\r\n",
                )
            )
        elif kind == 7:
            changed[at:at] = rng.choice((b"[", b"{", b'"', b"(", b"- ", b": ")) * rng.choice(
                (1, 9, 200)
            )
        else:
            number = str(rng.choice(ODD_NUMBERS)).encode()
            changed[at : at + rng.randrange(3)] = number
    return bytes(changed)


def mutate_value(value: Any, odd: Any, rng: random.Random) -> Any:
    """Put an odd value somewhere into a tree, take a key away, double it, or rename it."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(list(value))
        changed = dict(value)
        kind = rng.random()
        if kind < 0.1:
            del changed[key]
        elif kind < 0.2:
            changed[rng.choice(ODD_TEXTS) or "x"] = changed.pop(key)
        elif kind < 0.3:
            changed[key] = [changed[key]]
        elif kind < 0.4:
            changed[key] = odd
        else:
            changed[key] = mutate_value(changed[key], odd, rng)
        return changed
    if isinstance(value, list) and value and rng.random() < 0.85:
        at = rng.randrange(len(value))
        if rng.random() < 0.15:
            return [*value[:at], *value[at + 1 :]]
        return [*value[:at], mutate_value(value[at], odd, rng), *value[at + 1 :]]
    return odd
