"""Short rows of real data for small models: questions, running text, quotes and games of chess."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from tokenizers import Tokenizer

from tunebook.records import Tokens

PAD, BOS, EOS = 0, 1, 2
TEXT_VOCABULARY, CHESS_VOCABULARY = 512, 72
PROMPT, ANSWER, PIECE = 12, 16, 26
"""Tokens of a row at most: of a question, of an answer, of running text."""

Rows = list[Tokens]


def _text(path: Path) -> str:
    if path.suffix == ".gz":
        return gzip.decompress(path.read_bytes()).decode("utf-8")
    return path.read_text(encoding="utf-8")


# Written otherwise in ASCII. What is left beyond it falls apart into bytes with a vocabulary this
# small, and costs a healthy model eight nats a token: a bad example in runs that have none.
_PLAIN = str.maketrans(
    {
        "\u2018": "'",
        "\u2019": "'",
        "\u201c": '"',
        "\u201d": '"',
        "\u2013": "-",
        "\u2014": "-",
        "\u2026": "...",
        "\u00a0": " ",
        "\u00b0": " degrees",
        "\u00d7": "x",
    }
)


def _plain(text: str) -> str | None:
    """Write text in ASCII; None where more than marks is beyond it."""
    plain = text.translate(_PLAIN)
    return plain if plain.isascii() else None


@cache
def _tokenizer(data: Path) -> Tokenizer:
    return Tokenizer.from_file(str(data / "models/stories260K/tokenizer.json"))


def _encode(data: Path, text: str) -> list[int]:
    return list(_tokenizer(data).encode(text, add_special_tokens=False).ids)


def _example(name: str, row: int, prompt: Sequence[int], answer: Sequence[int]) -> Tokens:
    ids = (BOS, *prompt, *answer, EOS)
    target = (False,) * (1 + len(prompt)) + (True,) * (len(answer) + 1)
    return Tokens(f"{name}#{row}", f"{name}#{row}", ids, target, scored_bytes=2 * len(answer))


def questions(
    data: Path, name: str, path: str, keys: tuple[str, str, str], part: slice = slice(None)
) -> Rows:
    """Read prompt and answer pairs; of long ones the question's end and the answer's beginning."""
    text = _text(data / path)
    lines = json.loads(text) if text[0] == "[" else [json.loads(x) for x in text.splitlines()]
    found, seen = [], set()
    for number, line in list(enumerate(lines, start=1))[part]:
        asked = " ".join(str(line.get(k, "")).strip() for k in keys[:2]).strip()
        answer = str(line[keys[2]]).strip()[:200]
        if (asked := _plain(asked) or "") == "" or (answer := _plain(answer) or "") == "":
            continue
        prompt_ids = _encode(data, f"{asked[-200:]}\nA:")[-PROMPT:]
        answer_ids = _encode(data, answer)[:ANSWER]
        row = (*prompt_ids, *answer_ids)
        if len(answer_ids) >= 4 and row not in seen:
            seen.add(row)
            found.append(_example(name, number, prompt_ids, answer_ids))
    return found


def pieces(data: Path, name: str, *paths: str, most: int = 4000, length: int = PIECE) -> Rows:
    """Cut running text into pieces of equal length, every token of them a target."""
    ids: list[int] = []
    for path in paths:
        text = _text(data / path).translate(_PLAIN).encode("ascii", "ignore").decode()
        ids += _encode(data, text[: most * length * 4 // len(paths)])
    starts = range(0, min(len(ids) - length, most * length), length)
    return [_example(name, n, (), ids[s : s + length]) for n, s in enumerate(starts, start=1)]


def quotes(data: Path, name: str) -> Rows:
    found = []
    lines = _text(data / "quotes/keyword-quotes.txt").splitlines()
    for number, line in enumerate(lines[:4000], start=1):
        keyword, _, quote = (_plain(line) or "").partition(":")
        ids = _encode(data, quote.strip()[:150])[: PROMPT + ANSWER - 6]
        if len(ids) >= 6:
            found.append(_example(name, number, _encode(data, f"{keyword}:")[-6:], ids))
    return found


def games(data: Path, name: str, part: slice, first_ply: int = 0) -> Rows:
    """Read games as squares: two tokens a move, one more where a pawn is promoted."""
    lines = _text(data / "chess/lichess-blitz-uci.jsonl.gz").splitlines()
    found = []
    for number, line in list(enumerate(lines, start=1))[part]:
        moves = json.loads(line)["Moves"][first_ply : first_ply + 13]
        if len(moves) >= 8:
            found.append(_example(name, number, (), [t for m in moves for t in _squares(m)]))
    return found


def _squares(move: str) -> list[int]:
    squares = [3 + 8 * "abcdefgh".index(move[i]) + int(move[i + 1]) - 1 for i in (0, 2)]
    return squares + [67 + "nbrq".index(piece) for piece in move[4:]]
