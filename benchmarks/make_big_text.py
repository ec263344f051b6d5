"""Write a large synthetic JSONL set of English-like text, of which many words are never seen twice.

    python benchmarks/make_big_text.py OUT.jsonl 10e9 BOOK.txt.gz ...

Words are drawn with the frequencies they have in the books; a share of the running words is made up
of random syllables, so that a cache of words seen before is not flattered. How many of the distinct
words of each 100 MB did not occur before is printed for the first 400 MB.
"""

from __future__ import annotations

import gzip
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import orjson

CONSONANTS, VOWELS = "bcdfglmnprstv", "aeiou"
ENDINGS = ["tion", "ness", "ment", "ing", "able", "ous", "ist", "phy", "an", "er", "es", "ar"]
SYLLABLES = [c + v for c in CONSONANTS for v in VOWELS] + ENDINGS
MADE_UP = 0.01
MEAN_WORDS = 700
BLOCK_WORDS = 2_000_000


def make_words(generator: np.random.Generator, n: int) -> np.ndarray:
    """Make n words of two to five syllables."""
    syllables = np.array(SYLLABLES, dtype=object)
    parts = syllables[generator.integers(0, len(syllables), (n, 5))]
    lengths = generator.integers(2, 6, n)
    return np.array(["".join(row[:k]) for row, k in zip(parts, lengths, strict=True)], dtype=object)


def read_words(paths: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Count the words of books, punctuation left on them, as arrays of words and frequencies."""
    counts: Counter[str] = Counter()
    for path in paths:
        with gzip.open(path, "rt", encoding="utf-8") as stream:
            counts.update(stream.read().split())
    return np.array(list(counts), dtype=object), np.array(list(counts.values()), dtype=float)


def main() -> None:
    path, size = Path(sys.argv[1]), int(float(sys.argv[2]))
    generator = np.random.Generator(np.random.PCG64(7))
    vocabulary, counts = read_words(sys.argv[3:])
    cumulative = np.cumsum(counts) / counts.sum()
    written, number, began = 0, 0, time.monotonic()
    seen: set[str] = set()
    fresh: set[str] = set()
    next_report = 100_000_000
    with path.open("wb") as stream:
        while written < size:
            draw = np.searchsorted(cumulative, generator.random(BLOCK_WORDS))
            words = vocabulary[np.minimum(draw, len(vocabulary) - 1)]
            odd = np.flatnonzero(generator.random(BLOCK_WORDS) < MADE_UP)
            words[odd] = make_words(generator, len(odd))
            if written < 400_000_000:
                fresh.update(words.tolist())
            place = 0
            lines = []
            while place < BLOCK_WORDS:
                n = max(20, int(generator.exponential(MEAN_WORDS)))
                text = " ".join(words[place : place + n])
                lines.append(orjson.dumps({"id": number, "text": text}))
                number, place = number + 1, place + n
            block = b"\n".join(lines) + b"\n"
            stream.write(block)
            written += len(block)
            if fresh and written >= next_report:
                new = len(fresh - seen)
                print(
                    f"{written / 1e6:,.0f} MB: {new / len(fresh):.0%} of {len(fresh):,} distinct "
                    "words are unseen",
                    flush=True,
                )
                seen |= fresh
                fresh, next_report = set(), next_report + 100_000_000
    print(f"{number:,} rows, {written:,} bytes in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
