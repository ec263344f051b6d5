"""Invented sayings under keywords, as the notebook's table has them: marks at both ends, copies.

Every saying is put together from constructions and things, so none is anybody's.
"""

from __future__ import annotations

import csv
import io
import random
from pathlib import Path

KEYWORDS = (
    *("age", "anger", "art", "beauty", "change", "courage", "death", "dreams", "education"),
    *("faith", "family", "fear", "forgiveness", "freedom", "friendship", "future", "happiness"),
    *("hope", "humor", "inspiration", "kindness", "knowledge", "life", "love", "music", "patience"),
    *("peace", "time", "truth", "wisdom", "work"),
)
PLACES = (
    *("the hill", "the river", "the door", "the harbour", "the old bridge", "the orchard"),
    *("the last house", "the well", "the market", "the long road", "the mill", "the far shore"),
)
THINGS = (
    *("a lamp", "a seed", "a borrowed coat", "a small boat", "a loaf of bread", "an open hand"),
    *("a broken cup", "a patient horse", "a garden wall", "a winter coat", "a rusty key"),
    *("a letter", "a field of snow", "a good fire", "a quiet room", "a ladder"),
)
WHO = (
    *("the farmer", "a child", "the sailor", "an old friend", "the baker", "a stranger"),
    *("the shepherd", "the widow", "the miller", "your neighbour", "the carpenter", "a traveller"),
)
DOES = (
    *("carries it up the stairs", "learns to share it", "waits for the morning"),
    *("gives it away before noon", "keeps it warm through the winter", "never asks the price"),
    *("mends it in silence", "plants it twice", "forgets it on the road"),
    *("sings to it", "finds it again in the spring", "looks for it in the wrong house"),
)
FORMS = (
    "{Key} is {thing} on {place}, and {who} {does}.",
    "Give me {key}, and I will leave you {thing} at {place}.",
    "There is no {key} without {thing}; ask {who} at {place}.",
    "When {who} speaks of {key}, {place} becomes a little shorter.",
    "He who brings {thing} to {place} has no need to talk of {key}.",
    "{Key} begins where {who} {does}.",
    "I have looked for {key} at {place}, and found only {thing}.",
    "Do not ask {who} for {key}: ask for {thing}, and wait.",
    "The one who fears {key} is like {thing} at {place}.",
    "{Key} is not {thing}; it is what remains when {who} {does}.",
)
EACH = 16
COPIES = 42
MARK = "<|endoftext|>"


def saying(draw: random.Random, key: str) -> str:
    """Put a saying about a keyword together."""
    said = draw.choice(FORMS).format(
        Key=key.capitalize(),
        key=key,
        thing=draw.choice(THINGS),
        place=draw.choice(PLACES),
        who=draw.choice(WHO),
        does=draw.choice(DOES),
    )
    return f"{MARK}{key}: {said}{MARK}"


def make(folder: Path) -> None:
    """Write all files of the twin."""
    draw = random.Random(43)
    rows: dict[str, None] = {}
    for key in KEYWORDS:
        own: dict[str, None] = {}
        while len(own) < EACH:
            own[saying(draw, key)] = None
        rows |= own
    texts = [*rows, *draw.sample(sorted(rows), COPIES)]
    draw.shuffle(texts)
    written = io.StringIO()
    table = csv.writer(written, lineterminator="\n")
    table.writerow(["text"])
    table.writerows([text] for text in texts)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "quotes.csv").write_text(written.getvalue(), encoding="utf-8")
