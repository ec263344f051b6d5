"""Encode many texts fast, each token with the bytes it stands for.

In most tokenizers every token stands for a fixed string of bytes, and the tokens of a text spell
that text. Then a table of lengths says where each token is, no library needs to keep account of it,
and whichever encodes fastest may be used. That the tokens spell the text is checked for every
single one, by length; where they do not, `tokenizers` is asked for the places too.
"""

from __future__ import annotations

import importlib.util
import json
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from tunebook.errors import LibraryFault, first_line
from tunebook.models.encoders import ENCODERS, Encode
from tunebook.units import shorten

FlatTokens = tuple[
    NDArray[Any], NDArray[np.int64], NDArray[np.integer[Any]], NDArray[np.int64] | None
]

_WATCHED = 4  # texts that are encoded by both libraries,
_WATCH_EVERY_BYTES = 16 * 1024 * 1024  # once in so many
# gigatoken remembers every word it has met, without a bound; a fresh one costs a tenth of a second.
_FORGET_EVERY_BYTES = 512 * 1024 * 1024
# Texts that show how one tokenizer differs from another.
TRIAL = (
    "The quick brown fox jumps over 13 lazy dogs.",
    "  two spaces,\ttabs\t\tand\r\nline ends\n\n\n   indented\u00a0text  ",
    "naïve café — “quotes” … İstanbul ß ﬁ Å e\u0301 \u200d\u200b\ufeff",
    "日本語のテキスト 한국어 العربية עברית हिन्दी ไทย",
    "emoji 👩‍👩‍👧‍👦 🇩🇪 🤷🏽‍♀️ and \U0001f9ff",
    "it's I'll we've they'd don't YOU'RE x'y ''''",
    "1234567890 3.14159 1e-5 0xDEADBEEF 1,000,000 ½ ² ٣",
    "def f(x):\n    return {'a': [1, 2], \"b\": x**2}  # ok\n",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "\x00\x01\x1f\x7f\x80\uffff\ue000",
    "",
    " ",
    "\n",
    "ＦＵＬＬ ｗｉｄｔｈ ∑∫√∞ ≠ \u2028 \u2029 \u3000x",
)


# The normalizer of Llama 2 and its kin: a space before the text, and each space a visible sign.
_PIECES = {
    "type": "Sequence",
    "normalizers": [
        {"type": "Prepend", "prepend": "▁"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
    ],
}


class FastEncoder:
    """Encodes with the fastest library that agrees with `tokenizers`, else with that itself.

    `library` says which; `why_not` why no faster one is used.
    """

    def __init__(self, tokenizer_json: str, *, libraries: Sequence[str] = tuple(ENCODERS)) -> None:
        known = json.loads(tokenizer_json)
        # Some checkpoints carry the lengths of their own training; rows are cut with an account.
        known["truncation"] = known["padding"] = None
        tokenizer_json = json.dumps(known)
        self._slow = Tokenizer.from_str(tokenizer_json)
        self._specials = [
            str(token["content"])
            for token in known.get("added_tokens") or []
            if token.get("special")
        ]
        # A library may not know tokens that were added as text.
        self._trial = (*TRIAL, *(f"a{t} b {t}" for t in _added_as_text(known)))
        self._lengths, self._prefix = _byte_lengths(known, self._slow)
        self._composes = "NFC" in json.dumps(known.get("normalizer"))
        self._json = tokenizer_json
        self._unwatched_bytes = _WATCH_EVERY_BYTES
        self._remembered_bytes = 0
        self._fast: Encode | None = None
        self.library = "tokenizers"
        self.why_not: str | None = None
        if self._lengths is None:
            self.why_not = "its tokens stand for no fixed bytes"
            return
        for library in libraries:
            self._try(library)
            if self._fast is not None:
                return

    def _try(self, library: str) -> None:
        """Use a library if it is there, accepts the tokenizer and agrees on odd strings."""
        self._fast, self.library = None, "tokenizers"
        if importlib.util.find_spec(library) is None:
            self.why_not = f"{library} is not installed"
            return
        try:
            fast = ENCODERS[library](self._json)
            found = fast(self._trial)
        except Exception as error:  # they refuse in ways of their own; there is another
            said = shorten(first_line(error))
            self.why_not = f"{library} refuses it ({said})"
            return
        if not _same(found, self._plain(self._trial)):
            self.why_not = f"{library} encodes it otherwise than tokenizers does"
            return
        self._fast, self.library, self.why_not = fast, library, None

    def encode(self, texts: Sequence[str], *, specials: bool) -> FlatTokens:
        """Encode texts without begin or end tokens, as `FlatTokens` of the data layer.

        With `specials=False` the text of a special token is plain text. Raises LibraryFault when a
        library turns out to encode otherwise than `tokenizers`.
        """
        if self._lengths is None:
            return self._with_offsets(texts, specials=specials)
        sizes = np.array([_n_bytes(text) for text in texts], dtype=np.int64)
        ids, counts = self._ids(texts, specials=specials)
        n_bytes = self._lengths[ids]
        first = np.cumsum(counts) - counts
        some = counts > 0
        if self._prefix:
            # The tokenizer puts a space of its own before every text.
            n_bytes[first[some]] -= 1
        spelt = np.zeros(len(texts), dtype=np.int64)
        if some.any():
            spelt[some] = np.add.reduceat(n_bytes, first[some], dtype=np.int64)
        odd = np.flatnonzero((spelt != sizes) | self._is_odd(texts, specials=specials))
        flat = (ids, counts, n_bytes, None)
        return self._replace(flat, texts, odd, specials=specials) if len(odd) else flat

    def _is_odd(self, texts: Sequence[str], *, specials: bool) -> NDArray[np.bool_]:
        """Mark texts whose tokens may spell another text of the same length."""
        odd = np.zeros(len(texts), dtype=bool)
        if self._prefix and specials:
            # Behind a special token the tokenizer puts its space once more.
            odd |= np.fromiter((self._has_special(text) for text in texts), bool, len(texts))
        if self._composes:
            for place, text in enumerate(texts):
                odd[place] = not (text.isascii() or unicodedata.is_normalized("NFC", text))
        if self._fast is not None and not specials:
            # Some libraries read the text of a special token as that token.
            for special in self._specials:
                odd |= np.fromiter((special in text for text in texts), bool, len(texts))
        return odd

    def _ids(
        self, texts: Sequence[str], *, specials: bool
    ) -> tuple[NDArray[Any], NDArray[np.int64]]:
        if self._fast is None or specials:
            return self._plain(texts, specials=specials)
        ids, counts = self._fast(texts)
        self._unwatched_bytes += sum(map(len, texts))
        if self._unwatched_bytes < _WATCH_EVERY_BYTES:
            return ids, counts
        self._remembered_bytes += self._unwatched_bytes
        self._unwatched_bytes = 0
        plain = [i for i, t in enumerate(texts[:64]) if not self._has_special(t)][:_WATCHED]
        first = np.cumsum(counts) - counts
        watched = [ids[first[i] : first[i] + counts[i]] for i in plain]
        if not _same((_joined(watched), counts[plain]), self._plain([texts[i] for i in plain])):
            raise LibraryFault(
                f"{self.library} encoded a text otherwise than tokenizers does", self.library
            )
        if self._remembered_bytes >= _FORGET_EVERY_BYTES and self.library == "gigatoken":
            self._remembered_bytes = 0
            self._try(self.library)
        return ids, counts

    def _has_special(self, text: str) -> bool:
        return any(special in text for special in self._specials)

    def _plain(
        self, texts: Sequence[str], *, specials: bool = False
    ) -> tuple[NDArray[Any], NDArray[np.int64]]:
        self._slow.encode_special_tokens = not specials
        found = self._slow.encode_batch_fast(list(texts), add_special_tokens=False)
        counts = np.array([len(one) for one in found], dtype=np.int64)
        ids = np.fromiter((i for one in found for i in one.ids), dtype=np.uint32)
        return ids, counts

    def _with_offsets(self, texts: Sequence[str], *, specials: bool) -> FlatTokens:
        self._slow.encode_special_tokens = not specials
        found = self._slow.encode_batch(list(texts), add_special_tokens=False)
        ids, n_bytes, starts = [], [], []
        for text, one in zip(texts, found, strict=True):
            place = _byte_places(text)
            offsets = np.array(one.offsets, dtype=np.int64).reshape(-1, 2)
            ids.append(np.array(one.ids, dtype=np.uint32))
            if place is not None:
                offsets = place[offsets]
            starts.append(offsets[:, 0])
            n_bytes.append(offsets[:, 1] - offsets[:, 0])
        counts = np.array([len(one) for one in ids], dtype=np.int64)
        return _joined(ids, np.uint32), counts, _joined(n_bytes), _joined(starts)

    def _replace(
        self, flat: FlatTokens, texts: Sequence[str], odd: NDArray[Any], *, specials: bool
    ) -> FlatTokens:
        """Put the tokens of texts that were not spelt in with the places `tokenizers` gives."""
        ids, counts, n_bytes, _ = flat
        first = np.cumsum(counts) - counts
        total = np.cumsum(n_bytes, dtype=np.int64) - n_bytes
        starts = total - np.repeat(total[np.minimum(first, max(len(ids) - 1, 0))], counts)
        flat = (ids, counts, n_bytes, starts)
        other = self._with_offsets([texts[i] for i in odd.tolist()], specials=specials)
        where = {text: place for place, text in enumerate(odd.tolist())}
        other_first = np.cumsum(other[1]) - other[1]
        pieces: list[tuple[FlatTokens, slice]] = []
        for text in range(len(texts)):
            place = where.get(text)
            begin = int(first[text] if place is None else other_first[place])
            n = int(counts[text] if place is None else other[1][place])
            pieces.append((flat if place is None else other, slice(begin, begin + n)))
        return (
            _joined([source[0][part] for source, part in pieces], np.uint32),
            np.array([part.stop - part.start for _, part in pieces], dtype=np.int64),
            _joined([source[2][part] for source, part in pieces]),
            _joined([source[3][part] for source, part in pieces if source[3] is not None]),
        )


def _added_as_text(known: dict[str, Any]) -> list[str]:
    added = known.get("added_tokens") or []
    return [str(token["content"]) for token in added if not token.get("special")]


def _same(
    one: tuple[NDArray[Any], NDArray[np.int64]], other: tuple[NDArray[Any], NDArray[np.int64]]
) -> bool:
    return np.array_equal(one[1], other[1]) and np.array_equal(one[0], other[0])


def _n_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _byte_places(text: str) -> NDArray[np.int64] | None:
    """Give the byte at which each character starts, and the end; None when they are the same."""
    if text.isascii():
        return None
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    sizes = 1 + (points >= 0x80).astype(np.int64) + (points >= 0x800) + (points >= 0x10000)
    return np.concatenate([[0], np.cumsum(sizes)])


def _joined(pieces: Sequence[NDArray[Any]], dtype: Any = np.int64) -> NDArray[Any]:
    return np.concatenate(pieces).astype(dtype) if pieces else np.zeros(0, dtype=dtype)


def _byte_lengths(
    known: dict[str, Any], tokenizer: Tokenizer
) -> tuple[NDArray[np.int32] | None, bool]:
    """Give the bytes that each token stands for, and whether a space is put before each text.

    None for tokenizers that change text in other ways than these two: byte-level (Radford et al.
    2019), where a vocabulary string has one character per byte, and SentencePiece with byte
    fallback, where `▁` is a space and `<0x0A>` a byte.
    """
    if (known.get("model") or {}).get("type") != "BPE":
        return None, False
    normalizer, spelling = known.get("normalizer"), json.dumps(known.get("pre_tokenizer"))
    byte_level = '"ByteLevel"' in spelling and normalizer in (None, {"type": "NFC"})
    pieces = normalizer == _PIECES and not known.get("pre_tokenizer")
    if not byte_level and not (pieces and known["model"].get("byte_fallback")):
        return None, False
    vocabulary = tokenizer.get_vocab(with_added_tokens=False)
    added = {int(t["id"]): str(t["content"]) for t in known.get("added_tokens") or []}
    size = max([*vocabulary.values(), *added]) + 1
    lengths = np.zeros(size, dtype=np.int32)
    for token, number in vocabulary.items():
        lengths[number] = len(token) if byte_level else _piece_length(token)
    for number, content in added.items():
        lengths[number] = len(content.encode())
    return lengths, pieces


def _piece_length(token: str) -> int:
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        return 1
    return len(token.replace("▁", " ").encode())
