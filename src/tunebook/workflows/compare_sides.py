"""Which evaluations `tunebook compare RUN RUN` holds against each other, and which it must not."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path

from tunebook.book.content import weights_hash
from tunebook.book.evaluations import read_results, read_settings
from tunebook.book.places import RunFolder, open_run
from tunebook.book.run_file import flatten, imported_from
from tunebook.errors import BookError, UsageError
from tunebook.records import Evaluation

_NAME = re.compile(r"([^/@]+)(?:/([^@]+))?(?:@([^=]+)=(.*))?")

# Of whose weights a score is.
_OWN = ("weights", "answers")
# Scores made with others of these compare; the comparison says so.
_SAID = (
    "precision",
    "template",
    "tokenizer",
    "answers.precision",
    "answers.template",
    "header",
    "tags",
)
# What was asked is compared item by item, whatever file it came from.
_ASKED = ("examples", "data", "questions", "n", "window", "stride")

# What makes an evaluation of each kind.
_MEASURED_BY = {
    "loss": "evaluate",
    "judge": "judge",
    "pairs": "judge --pairwise",
    "probe": "probe",
    "chess": "chess",
    "chess-puzzles": "chess --puzzles FILE",
    "chess-games": "chess",
}

Settings = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Side:
    """One of those compared: an evaluation of some weights of a run.

    `name` is what it was called: RUN, RUN/base, RUN/step-N, RUN@template=qa. `settings` are all
    those of the evaluation, and of the answers it looked at, by dotted key.
    """

    name: str
    run: RunFolder
    evaluation: Evaluation
    settings: Settings

    @property
    def log(self) -> Path:
        """The file with a line per item."""
        return self.run.evaluations / self.evaluation.log


def find_sides(names: Sequence[str], book: Path, kind: str) -> list[Side]:
    """Choose an evaluation for each name: the newest ones that were made with the same settings.

    Raises BookError where there is none, saying which command makes it, and UsageError where
    settings differ that make scores incomparable.
    """
    there = _there(names, book, kind)
    if (found := next(_matching(there), None)) is None:
        raise _other_settings(kind, [each[0] for each in there])
    return found


def all_sides(names: Sequence[str], book: Path, kind: str) -> list[list[Side]]:
    """List everything that `find_sides` could choose, its own choice first."""
    there = _there(names, book, kind)
    found = dict[Path, list[Side]]()
    for sides in _matching(there):
        found.setdefault(sides[0].log, sides)
    if not found:
        raise _other_settings(kind, [each[0] for each in there])
    return list(found.values())


def choose_answers(names: Sequence[str], book: Path, log: str | None) -> list[Side]:
    """Choose answers that all have by the name of the first one's log; the newest for None."""
    there = all_sides(names, book, "answers")
    found = next((sides for sides in there if log in (None, sides[0].log.stem)), None)
    if found is None:
        known = ", ".join(sides[0].log.stem for sides in there)
        raise UsageError(f"{names[0]} has no answers {log} beside others; there is {known}")
    return found


def _there(names: Sequence[str], book: Path, kind: str) -> list[list[Side]]:
    if len(set(names)) < max(2, len(names)):
        raise UsageError("name two or more runs, each once, such as `tunebook compare run_1 run_2`")
    return [_evaluations(name, book, kind) for name in names]


def _matching(there: Sequence[Sequence[Side]]) -> Iterator[list[Side]]:
    # Another template makes other examples of the same data.
    for tolerated in ((), _SAID, (*_SAID, "examples"), (*_SAID, *_ASKED)):
        for first in there[0]:
            found = [first]
            for others in there[1:]:
                alike = (o for o in others if not differing(first, o).keys() - {*tolerated})
                found += [side for side in [next(alike, None)] if side is not None]
            if len(found) == len(there):
                yield found


def differing(a: Side, b: Side) -> dict[str, tuple[object, object]]:
    """List the settings in which two evaluations differ, but for whose weights they are."""
    keys = [key for key in {**a.settings, **b.settings} if key not in _OWN]
    pairs = {key: (a.settings.get(key), b.settings.get(key)) for key in keys}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def asked_of(sides: Sequence[Side]) -> str:
    """Name the data or the questions of those compared; empty where the kind has only its own."""
    names = (side.settings.get("data") or side.settings.get("questions") for side in sides)
    shown = dict.fromkeys(str(name) for name in names if name)
    return " and ".join("the held-out examples" if s == "held out" else s for s in shown)


def notes_on(sides: Sequence[Side]) -> list[str]:
    """Say in which settings those compared differ."""
    named = dict[str, dict[str, object]]()
    for a, b in combinations(sides, 2):
        for key, values in differing(a, b).items():
            named.setdefault(key, {}).update(zip((a.name, b.name), values, strict=True))
    return [
        f"{key} differs: {', '.join(f'{name} {_shown(value)}' for name, value in values.items())}"
        for key, values in named.items()
    ]


def split_name(name: str) -> tuple[str, str, str | None, str | None]:
    """Split RUN/WEIGHTS@KEY=VALUE; UsageError where it is none."""
    said = _NAME.fullmatch(name)
    if said is None:
        raise UsageError(f"`{name}` names no weights; write RUN, RUN/best or RUN@template=qa")
    run, weights, key, value = said.groups()
    return run, weights or "final", key, value


def command_for(kind: str, run: str, subject: str = "final") -> str:
    """Give the command that makes an evaluation of a kind."""
    if kind == "answers":
        return "tunebook compare A B --blind --ask FILE"
    weights = "" if subject in ("final", "base") else f" --weights base,{subject}"
    if kind.startswith("harness:"):
        return f"tunebook evaluate {run} --harness {kind.partition(':')[2]}{weights}"
    verb, *options = _MEASURED_BY[kind].split(" ", 1)
    return " ".join(["tunebook", verb, run + weights, *options])


def check_kind(kind: str) -> None:
    """Raise UsageError for what is no kind of evaluation, naming those there are."""
    if kind not in _MEASURED_BY and not kind.startswith("harness:"):
        near = difflib.get_close_matches(kind, _MEASURED_BY, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        known = ", ".join(_MEASURED_BY)
        raise UsageError(f"no score is called {kind}{hint}; there is {known} and harness:TASK")


def _evaluations(name: str, book: Path, kind: str) -> list[Side]:
    """List the evaluations of the weights that a name means, the newest first."""
    run_name, weights, key, value = split_name(name)
    run = open_run(book, run_name)
    results = _answers(run) if kind == "answers" else read_results(run)
    ours = [one for one in reversed(results) if one.kind == kind and _is_of(run, weights, one)]
    if not ours:
        if imported_from(run):
            raise BookError(
                f"{run_name} was imported, and no items of it are known to compare by; `tunebook "
                f"verdicts {run_name} --against OTHER` compares averages by stated assumptions"
            )
        kinds = sorted({one.kind for one in results} - {kind})
        rest = f"; there is {', '.join(kinds)} (--by {kinds[0]})" if kinds else ""
        raise BookError(
            f"no {kind} of {run_name}/{weights} was measured; "
            f"`{command_for(kind, run_name, weights)}` does it{rest}"
        )
    sides = [Side(name, run, one, _settings(run, one)) for one in ours]
    found = [s for s in sides if key is None or _text(s.settings.get(key)) == value]
    if not found:
        made = sorted({_text(s.settings[str(key)]) for s in sides if key in s.settings})
        near = difflib.get_close_matches(str(key), sides[0].settings, n=1)
        there = ", ".join(made) or f"no such setting (did you mean {near[0] if near else 'data'}?)"
        raise BookError(f"{run_name} has no {kind} with {key}={value}; there is {there}")
    return found


def _answers(run: RunFolder) -> list[Evaluation]:
    """List what was answered as evaluations without a score, the newest last."""
    logs = sorted(run.evaluations.glob("answers-*.jsonl"), key=lambda path: path.stat().st_mtime)
    return [
        Evaluation(
            kind="answers",
            subject=log.stem.removeprefix("answers-").rpartition("-")[0],
            unit="",
            score=None,
            interval=None,
            n=0,
            missing=0,
            examples_hash="",
            settings=read_settings(log),
            details={},
            log=log.name,
        )
        for log in logs
    ]


def _is_of(run: RunFolder, weights: str, one: Evaluation) -> bool:
    """Tell whether an evaluation is of the weights that are there by that name now."""
    folder = {"final": run.final, "best": run.best}.get(weights, run.checkpoints / weights)
    if weights == "base" or not folder.is_dir():
        return one.subject == weights
    # An adapter's hash is followed by that of its base.
    now = weights_hash(folder.resolve(), run.book)
    return str(one.settings.get("weights")).startswith(now)


def _settings(run: RunFolder, one: Evaluation) -> Settings:
    settings = read_settings(run.evaluations / one.log) | dict(one.settings)
    answers = settings.get("answers")
    if isinstance(answers, str):
        made_with = read_settings(run.evaluations / f"{answers}.jsonl")
        settings["answers"] = {k: v for k, v in made_with.items() if k != "weights"}
    return flatten(settings)


def _other_settings(kind: str, newest: Sequence[Side]) -> UsageError:
    """Say which settings keep the newest evaluations from being compared."""
    for a, b in product(newest[:1], newest[1:]):
        wrong = {k: v for k, v in differing(a, b).items() if k not in (*_SAID, *_ASKED)}
        if wrong:
            named = "; ".join(f"{k}: {_shown(u)} and {_shown(v)}" for k, (u, v) in wrong.items())
            command = command_for(kind, b.run.name, b.evaluation.subject)
            return UsageError(
                f"the {kind} scores of {a.name} and {b.name} do not compare, for they were made "
                f"with other settings ({named}); `{command}` with the settings of {a.name} makes "
                "them comparable"
            )
    return UsageError(f"no {kind} of all of them was made with the same settings")


def _shown(value: object) -> str:
    text = _text(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)
