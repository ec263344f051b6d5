"""Drop texts whose paragraphs are not made of the characters that prose is made of."""

from __future__ import annotations

import functools
import re
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from tunebook.data.filters.chain import Filter
from tunebook.data.filters.settings import Between
from tunebook.data.filters.words import trained_texts
from tunebook.records import Example

_BREAK = re.compile(r"\n[ \t\r]*\n\s*")
_PERCENT = re.compile(r"(\d+(?:\.\d+)?) ?- ?(\d+(?:\.\d+)?)")
_CLASSES = (
    *("spaces", "digits", "capitals", "lower_case", "newlines", "backslashes", "periods"),
    *("exclamation_marks", "question_marks"),
)
_LAST_POINT = 0xFFFF


class CharacterClasses(Filter):
    """Drops texts (or answers) of which fewer than `min_share` of the paragraphs pass the bounds.

    A paragraph ends at an empty line and passes when the share of each class of characters, in
    percent of its characters, is within its bounds, written `low-high`. Source: the astronomy
    notebook's recipe for papers and books, with its bounds as defaults.
    """

    def __init__(
        self,
        spaces: str = "6-24",
        digits: str = "0-15",
        capitals: str = "1-23",
        lower_case: str = "50-95",
        newlines: str = "0-5",
        backslashes: str = "0-5",
        periods: str = "0-8",
        exclamation_marks: str = "0-5",
        question_marks: str = "0-6",
        min_share: Annotated[float, Between(0, 1)] = 0.5,
    ) -> None:
        given = (
            *(spaces, digits, capitals, lower_case, newlines, backslashes, periods),
            *(exclamation_marks, question_marks),
        )
        self.bounds = np.array(
            [_percent(name, text) for name, text in zip(_CLASSES, given, strict=True)]
        )
        self.min_share = min_share

    def reason(self, example: Example) -> str | None:
        """Give the reason to drop a row, or None to keep it."""
        parts = (p for text in trained_texts(example) for p in _BREAK.split(text.strip()))
        paragraphs = [part for part in parts if part]
        if not paragraphs:
            return None
        shares = _shares(paragraphs)
        passes = np.all((shares >= self.bounds[:, 0]) & (shares <= self.bounds[:, 1]), axis=1)
        return "character classes" if passes.mean() < self.min_share else None


def _percent(name: str, text: str) -> tuple[float, float]:
    found = _PERCENT.fullmatch(text.strip())
    if found is None or float(found[1]) > float(found[2]):
        raise ValueError(f"{name} is {text!r}, and must be a range in percent such as 6-24")
    return float(found[1]) / 100, float(found[2]) / 100


def _shares(paragraphs: list[str]) -> NDArray[np.float64]:
    """Give the share of each class in each paragraph, (paragraphs, classes)."""
    lengths = np.array([len(p) for p in paragraphs], dtype=np.int64)
    points = np.frombuffer("".join(paragraphs).encode("utf-32-le", "surrogatepass"), dtype="<u4")
    found = _class_of_point()[np.minimum(points, _LAST_POINT)]
    n_classes = len(_CLASSES) + 1
    place = np.repeat(np.arange(len(lengths)) * n_classes, lengths)
    counts = np.bincount(place + found, minlength=len(lengths) * n_classes)
    return np.asarray(counts.reshape(-1, n_classes)[:, 1:] / lengths[:, None])


@functools.cache
def _class_of_point() -> NDArray[np.uint8]:
    """Give the class of each code point of the basic plane, 0 for none of them."""
    classes = np.zeros(_LAST_POINT + 1, dtype=np.uint8)
    for point in range(_LAST_POINT):
        sign = chr(point)
        if sign.isdigit():
            classes[point] = 2
        elif sign.isupper():
            classes[point] = 3
        elif sign.islower():
            classes[point] = 4
    for place, sign in ((1, " "), (5, "\n"), (6, "\\"), (7, "."), (8, "!"), (9, "?")):
        classes[ord(sign)] = place
    return classes
