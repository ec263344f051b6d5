"""What several weights answered to the same questions, with what a judge gave for it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from tunebook.book.evaluations import read_log, read_results
from tunebook.book.places import list_runs
from tunebook.evaluate.judge.parse import read_reason
from tunebook.records import Evaluation
from tunebook.workflows.compare_sides import Side, all_sides, choose_answers

Key = tuple[str, str]
Judgements = Mapping[str, Sequence[Evaluation]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What one of the weights said; `score` is the mean of the judge's, None without one.

    `others` are what it said when it was asked again.
    """

    text: str
    ended: bool
    left_out: int
    others: tuple[str, ...] = ()
    score: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question with an answer for each column; None where it was not asked."""

    item_id: str
    item_hash: str
    text: str
    reference: str | None
    tags: tuple[str, ...]
    answers: tuple[Answer | None, ...]

    @property
    def spread(self) -> float:
        """How far the scores of the columns lie apart; below 0 where there are not two."""
        scores = [one.score for one in self.answers if one and one.score is not None]
        return max(scores) - min(scores) if len(scores) > 1 else -1.0


@dataclass(frozen=True, slots=True)
class Choice:
    """Answers that all columns have: `name` is the log of the first column's."""

    name: str
    words: str
    judged: bool
    sides: Sequence[Side]


@dataclass(frozen=True, slots=True)
class SideBySide:
    """The table: `choices` are the sets of answers there are, of which `chosen` is shown.

    `judge` names who scored; empty without scores.
    """

    names: tuple[str, ...]
    choices: tuple[Choice, ...]
    chosen: Choice
    judge: str
    questions: tuple[Asked, ...]


def side_by_side(names: Sequence[str], book: Path, chosen: str | None = None) -> SideBySide:
    """Put answers beside each other, those that were judged where nothing is chosen.

    Raises as `find_sides` where there are none that were made with the same settings.
    """
    found = all_sides(names, book, "answers")
    judgements = {side.run.name: read_results(side.run, "judge") for side in found[0]}
    choices = [_choice(sides, judgements) for sides in found]
    if chosen is not None:
        chosen = choose_answers(names, book, chosen)[0].log.stem
    fitting = (c for c in choices if (c.judged if chosen is None else c.name == chosen))
    choice = next(fitting, choices[0])
    logs = [read_log(side.log) for side in choice.sides]
    judge, judged = _judged(choice.sides, judgements)
    columns = [_answers(log, found) for log, found in zip(logs, judged, strict=True)]
    lines: dict[Key, dict[str, Any]] = {}
    for log in logs:
        for line in log:
            # A reference may be in one log alone, of a newer release.
            lines.setdefault(_key(line), {}).update({k: v for k, v in line.items() if v})
    questions = [
        Asked(
            item_id=key[0],
            item_hash=key[1],
            text=str(line.get("question", key[0])),
            reference=None if line.get("reference") is None else str(line["reference"]),
            tags=tuple(map(str, line.get("tags") or _tags(judged, key))),
            answers=tuple(column.get(key) for column in columns),
        )
        for key, line in lines.items()
    ]
    return SideBySide(tuple(names), tuple(choices), choice, judge, tuple(questions))


def answered(book: Path) -> list[str]:
    """Name the weights of a book that answered questions, as `side_by_side` takes them."""
    found = []
    for run in list_runs(book):
        logs = run.evaluations.glob("answers-*.jsonl")
        subjects = {log.stem.removeprefix("answers-").rpartition("-")[0] for log in logs}
        found += [
            run.name if subject == "final" else f"{run.name}/{subject}"
            for subject in sorted(subjects, key=lambda one: (one != "final", one))
        ]
    return found


def _choice(sides: Sequence[Side], judgements: Judgements) -> Choice:
    settings = sides[0].settings
    with open(sides[0].log, "rb") as file:
        n = sum(1 for _ in file) - 1
    temperature = settings.get("sampling.temperature")
    words = [
        f"{n:,} answers",
        "" if temperature is None else f"temperature {temperature:g}",
        f"at most {settings['sampling.max_new_tokens']} tokens" if temperature is not None else "",
    ]
    judged = any(_of(side, judgements) for side in sides)
    shown = ", ".join(filter(None, [*words, "judged" if judged else ""]))
    return Choice(sides[0].log.stem, shown, judged, sides)


def _of(side: Side, judgements: Judgements) -> list[Evaluation]:
    """List what judged the answers of a side, the newest first."""
    found = judgements[side.run.name]
    return [one for one in reversed(found) if one.settings.get("answers") == side.log.stem]


def _judged(
    sides: Sequence[Side], judgements: Judgements
) -> tuple[str, list[dict[Key, list[dict[str, Any]]]]]:
    """Read the scores of one judge with one prompt: the newest that scored most of the sides."""
    there = [{_bench(one): one for one in _of(side, judgements)[::-1]} for side in sides]
    benches = list(dict.fromkeys(bench for own in there for bench in own))
    if not benches:
        return "", [{} for _ in sides]
    bench = max(benches, key=lambda one: sum(one in own for own in there))
    found = []
    unit = ""
    for side, own in zip(sides, there, strict=True):
        scores: dict[Key, list[dict[str, Any]]] = {}
        if bench in own:
            unit = own[bench].unit
            for line in read_log(side.run.evaluations / own[bench].log):
                scores.setdefault(_key(line), []).append(line)
        found.append(scores)
    return unit, found


def _bench(one: Evaluation) -> str:
    return json.dumps([one.settings.get("judge"), one.settings.get("prompt")], default=str)


def _answers(
    log: Sequence[Mapping[str, Any]], judged: Mapping[Key, Sequence[Mapping[str, Any]]]
) -> dict[Key, Answer]:
    others: dict[Key, list[str]] = {}
    for line in log:
        if line["repeat"]:
            others.setdefault(_key(line), []).append(str(line["text"]))
    found = {}
    for line in log:
        if line["repeat"] != 0:
            continue
        lines = judged.get(_key(line), ())
        scores = [one["value"] for one in lines if one.get("value") is not None]
        reasons = dict.fromkeys(read_reason(str(one.get("reply") or "")) for one in lines)
        found[_key(line)] = Answer(
            text=str(line["text"]),
            ended=bool(line.get("ended", True)),
            left_out=int(line.get("left_out") or 0),
            others=tuple(others.get(_key(line), ())),
            score=fmean(scores) if scores else None,
            reason="\n".join(filter(None, reasons)),
        )
    return found


def _tags(
    judged: Sequence[Mapping[Key, Sequence[Mapping[str, Any]]]], key: Key
) -> list[str]:  # of logs by older releases, a judge's lines alone have them
    return next((list(own[key][0].get("tags") or ()) for own in judged if key in own), [])


def _key(line: Mapping[str, Any]) -> Key:
    return line["item_id"], line["item_hash"]
