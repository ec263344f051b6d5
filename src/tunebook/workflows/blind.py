"""What `tunebook compare A B --blind` does: let a person vote on answers without their names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, Literal

from tunebook.book.evaluations import (
    EvaluationLog,
    log_path,
    open_log,
    read_log,
    scores_of,
    write_result,
)
from tunebook.book.places import open_run
from tunebook.errors import UsageError
from tunebook.records import Evaluation, ItemScore
from tunebook.workflows.compare_sides import Side, choose_answers, split_name
from tunebook.workflows.notebook import build_notebook

MARGIN = 0.05
"""Win rates within this of one half are as good as one half."""

Vote = Literal["1", "2", "t", "s"]


@dataclass(frozen=True, slots=True)
class Ballot:
    """A question with two answers in the order they are shown; `a_first` is not to be shown."""

    item_id: str
    item_hash: str
    question: str
    shown: tuple[str, str]
    a_first: bool

    @property
    def pair(self) -> tuple[str, str, str]:
        """Give the question and the answers of a and b: one pair, whatever ids it comes under."""
        a, b = self.shown if self.a_first else self.shown[::-1]
        return self.question, a, b


@dataclass(frozen=True, slots=True)
class Voting:
    """What is voted on: of `n` pairs of unequal answers, `waiting` has no vote yet.

    `alike` are ballots of equal answers that are not written down as ties yet; `log` keeps the
    votes cast.
    """

    sides: tuple[Side, Side]
    waiting: list[Ballot]
    alike: list[Ballot]
    n: int
    log: EvaluationLog

    def cast(self, ballot: Ballot, vote: Vote) -> None:
        """Write a vote down: 1 or 2 for the answer shown there, t for a tie, s to skip."""
        line: dict[str, Any] = {
            "item_id": ballot.item_id,
            "item_hash": ballot.item_hash,
            "a_first": ballot.a_first,
            "vote": vote,
        }
        if vote != "s":  # what is skipped has no score, and is not missing either
            line["value"] = 0.5 if vote == "t" else float((vote == "1") == ballot.a_first)
        self.log.add([line])


def ask_both(
    names: Sequence[str],
    book: Path,
    questions: str,
    say: Callable[[str], None],
) -> None:
    """Let the weights of each name answer the questions of a file, where they have not yet."""
    # These load models, which voting on what is there does not need.
    from tunebook.workflows.judge import Asked, answers_to, choose_questions
    from tunebook.workflows.speakers import open_run_to_ask

    asked = Asked(questions=questions)
    for name in names:
        run, weights = split_name(name)[:2]
        trained = open_run_to_ask(open_run(book, run), (weights,), say=say)
        answers_to(choose_questions(trained, asked, say), trained, asked, say)


def see_voting(
    names: Sequence[str], book: Path, *, seed: int = 0, answers: str | None = None
) -> Voting:
    """Look at the votes between two sides without writing, whoever may be voting now.

    `answers` is the log of the first one's to vote on; None takes the newest that both have.

    A pair that comes under several ids is voted on once. Order of questions and of the two answers
    comes from the seed alone. Raises UsageError where no question was answered by both.
    """
    sides, settings = _sides(names, book, seed, answers)
    path = log_path(sides[0].run, "votes", sides[0].evaluation.subject, settings)
    return _voting(sides, EvaluationLog(path, read_log(path) if path.exists() else ()), seed)


@contextmanager
def open_voting(
    names: Sequence[str], book: Path, *, seed: int = 0, answers: str | None = None
) -> Iterator[Voting]:
    """Open the votes between two sides to go on with them; equal answers are ties without a vote.

    Raises as `see_voting`, and Busy while another process votes on the same.
    """
    sides, settings = _sides(names, book, seed, answers)
    with open_log(sides[0].run, "votes", sides[0].evaluation.subject, settings) as log:
        voting = _voting(sides, log, seed)
        while voting.alike:
            voting.cast(voting.alike.pop(), "t")
        yield voting


def _sides(
    names: Sequence[str], book: Path, seed: int, answers: str | None
) -> tuple[tuple[Side, Side], dict[str, object]]:
    if len(names) != 2:
        raise UsageError("blind voting is between two, such as `tunebook compare A B --blind`")
    a, b = choose_answers(names, book, answers)
    return (a, b), {
        "weights": a.settings["weights"],
        "against": b.name,
        "against_weights": b.settings["weights"],
        "answers": [a.log.stem, b.log.stem],
        "seed": seed,
    }


def _voting(sides: tuple[Side, Side], log: EvaluationLog, seed: int) -> Voting:
    ballots = _ballots(*sides, seed)
    seen = {ballot.pair for ballot in ballots if log.has(ballot.item_id, ballot.item_hash)}
    voting = Voting(sides, [], [], len({b.pair for b in ballots if b.shown[0] != b.shown[1]}), log)
    for ballot in ballots:
        if ballot.pair not in seen:
            seen.add(ballot.pair)
            alike = ballot.shown[0] == ballot.shown[1]
            (voting.alike if alike else voting.waiting).append(ballot)
    return voting


def count_votes(
    voting: Voting, book: Path, say: Callable[[str], None] = lambda _text: None
) -> Evaluation:
    """Sum the votes up and write that down; UsageError when there is no vote."""
    written = write_result(voting.sides[0].run, voting.log.path, tally_votes(voting))
    build_notebook(book, say)
    return written


def tally_votes(voting: Voting) -> Evaluation:
    """Sum the votes up: win rate of the first, and whether places were voted for.

    UsageError when there is no vote.
    """
    # scipy takes most of a second, which showing what is voted on does not need.
    from tunebook.statistics.compare import compare
    from tunebook.statistics.estimate import mean_estimate

    a, b = voting.sides
    rows = scores_of(voting.log.rows, a.name)
    if not rows:
        raise UsageError("no vote was cast; the same command begins again")
    found = mean_estimate(rows, "bca", (0.0, 1.0))
    even = [ItemScore(row.item_id, row.item_hash, "even", 0.5) for row in rows]
    compared = compare(rows, even, margin=MARGIN)
    if found.interval is not None:  # the lead is the share less one half, and so is its interval
        low, high = found.interval
        compared = replace(compared, interval=(low - 0.5, high - 0.5))
    return Evaluation(
        kind="votes",
        subject=a.evaluation.subject,
        unit="share of votes won",
        score=found.score,
        interval=found.interval,
        n=found.n,
        missing=0,
        examples_hash=found.examples_hash,
        settings={"weights": a.settings["weights"], "against": b.name},
        details=_details(voting),
        against=b.name,
        comparison=compared,
    )


def _ballots(a: Side, b: Side, seed: int) -> list[Ballot]:
    ours, theirs = (
        {
            (line["item_id"], line["item_hash"]): line
            for line in read_log(side.log)
            if line["repeat"] == 0
        }
        for side in (a, b)
    )
    both = sorted(ours.keys() & theirs.keys())
    if not both:
        raise UsageError(
            f"{a.name} and {b.name} answered no question both; "
            f"`tunebook compare {a.name} {b.name} --blind --ask FILE` lets them"
        )
    # One generator per question: more questions later leave the sides of these as they are.
    ballots = []
    for key in both:
        a_first = Random(f"{seed} {key}").random() < 0.5
        texts = (str(ours[key]["text"]), str(theirs[key]["text"]))
        shown = texts if a_first else (texts[1], texts[0])
        ballots.append(Ballot(*key, str(ours[key].get("question", key[0])), shown, a_first))
    Random(seed).shuffle(ballots)
    return ballots


def _details(voting: Voting) -> dict[str, Any]:
    """Count the votes; sides being drawn, either place wins half of them unless it is preferred."""
    from scipy import stats

    votes = [line["vote"] for line in voting.log.rows]
    first, chosen = votes.count("1"), votes.count("1") + votes.count("2")
    return {
        "votes": chosen,
        "ties": votes.count("t"),
        "skipped": votes.count("s"),
        "waiting": len(voting.waiting) - sum(_has(voting, one) for one in voting.waiting),
        "first_won": first,
        "position_p": float(stats.binomtest(first, chosen).pvalue) if chosen else None,
    }


def _has(voting: Voting, ballot: Ballot) -> bool:
    return voting.log.has(ballot.item_id, ballot.item_hash)
