"""Names that a folder may have and programs trip over."""

from __future__ import annotations

DEEP = "/".join(["folder-of-forty-letters-in-a-deep-path-xyz"] * 22)
NO_TEXT = "no UTF-8"  # a run file is text, and could not name its data
NAMES: dict[str, bytes] = {
    "quotes": b'it\'s "odd"',
    "glob": b"a*b?[c]{d,e}",
    "unicode": "Мой блокнот ノート ünï".encode(),
    "emoji": "📓 book 💥".encode(),
    "letter in two parts": "e\u0301".encode(),
    "right to left": "a\u202eb".encode(),
    "zero width": "a\u200bb\ufeff".encode(),
    "spaces": b"  two  ",
    "tab": b"a\tb ",
    "newline": b"two\nlines",
    "newline at the end": b"line\n",
    "escape": b"\x1b[31mred",
    "bell and delete": b"\x07\x7f",
    "backslash": b"a\\b\\",
    "percent": b"%s%n%00%41",
    "command": b"$(touch x) `touch y` $HOME",
    "braces": b"{x} {{7*7}} ${HOME}",
    "tilde": b"~root",
    "tilde alone": b"~",
    "dash": b"-rf",
    "option": b"--help",
    "hash and shell": b"#a;b&c|d>e<f",
    "YAML": b"a: [b",
    "word of YAML": b"null",
    "number": b"0",
    "web address": b"http:",
    "device of Windows": b"con",
    "stream of Windows": b"a:b",
    "dots at the end": b"end...",
    "hidden": b".hidden",
    "255 bytes": b"n" * 255,
    "255 bytes of emoji": "💥".encode() * 63 + b"abc",
    NO_TEXT: b"caf\xe9",
    "deep": DEEP.encode(),
}
