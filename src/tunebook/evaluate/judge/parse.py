"""From what a judge wrote to a score; what holds no score is a failure with a name."""

from __future__ import annotations

import json
import math
import re

NO_SCORE = "no score"
NO_CHOICE = "no choice"
OUT_OF_RANGE = "out of range"
OTHER_SCALE = "another scale"
EMPTY_REPLY = "empty reply"

_NUMBER = r"([-+]?\d+(?:\.\d+)?)"
_OF = r"(?:\s*(?:/|out of)\s*(\d+))?"
_BARE = re.compile(rf"[\s*_`\"']*{_NUMBER}{_OF}[\s*_`\"'.]*")
# Only words that lead to a number: in "the score depends on 3 things" there is no score.
_LEAD = r"(?:\W|\b(?:is|of|as|at|would|be|this|the|answer|response|a|an|i|give|it|final)\b)"
_NAMED = re.compile(rf"\bscored?\b{_LEAD}{{0,24}}?{_NUMBER}(?![\d.]*\d){_OF}", re.IGNORECASE)
_OF_100 = re.compile(rf"(?<![\d.]){_NUMBER}\s*(?:/|out of)\s*(100)\b", re.IGNORECASE)
_SCALE = re.compile(r"\b0\s*(?:-|–|—|to|and)\s*100\b|\((?:out )?of 100\)", re.IGNORECASE)
_MOST_READ = 16_384  # characters from the end: a score stands there, and no reply costs minutes


class NoScore(Exception):
    """A reply that cannot be read as a score; its text is the kind of failure."""


def read_score(reply: str) -> float:
    """Read a score of 0..100; NoScore says why there is none.

    In this order: `score` of a JSON object, the number alone (`/100` allowed), the last number
    that the word score leads to, the last one `/100`. A number on another scale or out of range is
    a failure, never corrected.
    """
    said = _said(reply)
    if (named := _json_score(said)) is not None:
        value, scale = named
    elif bare := _BARE.fullmatch(said):
        value, scale = float(bare[1]), bare[2]
    elif found := _NAMED.findall(_SCALE.sub(" ", said)) or _OF_100.findall(said):
        value, scale = float(found[-1][0]), found[-1][1]
    else:
        raise NoScore(NO_SCORE)
    if scale and float(scale) != 100:
        raise NoScore(OTHER_SCALE)
    if not 0 <= value <= 100:  # NaN is in no range
        raise NoScore(OUT_OF_RANGE)
    return value


def read_choice(reply: str) -> float:
    """Read which of two answers is better: 1 for A, 0 for B, 0.5 for a tie; NoScore says why not.

    `better` of a JSON object, or the word alone.
    """
    said = _said(reply)
    found = _json_value(said, "better")
    word = said if found is None else str(found)
    choice = _CHOICES.get(word.strip(" \t\n*_`\"'.").lower())
    if choice is None:
        raise NoScore(NO_CHOICE)
    return choice


def read_reason(reply: str) -> str:
    """Read why a judge scored as it did: `reason` of a JSON object, or all that it said."""
    try:
        found = _json_value(_said(reply), "reason")
    except NoScore:
        return ""
    return reply.strip() if found is None else str(found)


_CHOICES = {"a": 1.0, "answer a": 1.0, "b": 0.0, "answer b": 0.0, "tie": 0.5}


def _said(reply: str) -> str:
    # Models that think aloud try numbers there; only what comes after is said.
    said = reply.rpartition("</think>")[2][-_MOST_READ:]
    if not said.strip():
        raise NoScore(EMPTY_REPLY)
    return said


def _json_score(text: str) -> tuple[float, str] | None:
    found = _json_value(text, "score")
    if isinstance(found, str) and (bare := _BARE.fullmatch(found)):
        return float(bare[1]), bare[2]
    if isinstance(found, (int, float)) and not isinstance(found, bool):
        return (float(found) if abs(found) < 1e9 else math.inf), ""
    if found is not None:
        raise NoScore(NO_SCORE)
    return None


def _json_value(text: str, key: str) -> object:
    """Find the last JSON object that has a key, wherever it stands in the text; None for none."""
    decoder = json.JSONDecoder()
    found = None
    place = text.find("{")
    while place >= 0:
        try:
            value, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):  # also a number of too many digits
            end = place + 1
        else:
            if isinstance(value, dict) and key in value:
                found = value[key]
        place = text.find("{", end)
    return found
