"""Write a large synthetic JSONL set of English-like text, of which many words are never seen twice.

    python benchmarks/make_big_text.py OUT.jsonl 10e9

Words are drawn from a fixed vocabulary by Zipf's law; a share of all running words is made up of
random syllables, so that a cache of words seen before is not flattered. The share of distinct words
of each 100 MB that did not occur before is printed.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import orjson

SYLLABLES = (
    "ba be bi bo bu ca ce ci co cu da de di do du fa fe fi fo fu ga ge gi go gu la le li lo lu ma "
    "me mi mo mu na ne ni no nu pa pe pi po pu ra re ri ro ru sa se si so su ta te ti to tu va ve "
    "vi vo vu an en in on un ar er ir or ur as es is os us tion ness ment ing able ous ist phy"
).split()
MADE_UP = 0.04
KNOWN_WORDS = 60_000
MEAN_WORDS = 350
BLOCK_WORDS = 2_000_000


def make_words(generator: np.random.Generator, n: int) -> np.ndarray:
    """Make n words of two to five syllables."""
    syllables = np.array(SYLLABLES, dtype=object)
    parts = syllables[generator.integers(0, len(syllables), (n, 5))]
    lengths = generator.integers(2, 6, n)
    return np.array(["".join(row[:k]) for row, k in zip(parts, lengths, strict=True)], dtype=object)


def main() -> None:
    path, size = Path(sys.argv[1]), int(float(sys.argv[2]))
    generator = np.random.Generator(np.random.PCG64(7))
    vocabulary = make_words(generator, KNOWN_WORDS)
    weights = 1 / (np.arange(KNOWN_WORDS) + 2.7)
    weights /= weights.sum()
    cumulative = np.cumsum(weights)
    written, number, began = 0, 0, time.monotonic()
    seen: set[str] = set()
    fresh: set[str] = set()
    known_before, next_report = 0, 100_000_000
    with path.open("wb") as stream:
        while written < size:
            draw = np.searchsorted(cumulative, generator.random(BLOCK_WORDS))
            words = vocabulary[np.minimum(draw, KNOWN_WORDS - 1)]
            odd = np.flatnonzero(generator.random(BLOCK_WORDS) < MADE_UP)
            words[odd] = make_words(generator, len(odd))
            if written < 400_000_000:
                fresh.update(words.tolist())
            place = 0
            lines = []
            while place < BLOCK_WORDS:
                n = max(20, int(generator.exponential(MEAN_WORDS)))
                text = " ".join(words[place : place + n]).replace("s ", "s, ", 3)
                lines.append(orjson.dumps({"id": number, "text": text.capitalize() + "."}))
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
