"""Votes on two answers without their names; nothing that is sent tells which is whose."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response

from tunebook.errors import Busy, TunebookError, UsageError
from tunebook.pages.evaluations import comparison_text, scored_text
from tunebook.units import format_number
from tunebook.web.desk import desk_of
from tunebook.web.polls import Poll
from tunebook.workflows.blind import (
    Ballot,
    Vote,
    Voting,
    count_votes,
    open_voting,
    see_voting,
    tally_votes,
)

router = APIRouter()

_VOTES: tuple[Vote, ...] = ("1", "2", "t", "s")
_BUSY = (
    "someone else is voting on these two at this moment, perhaps in a terminal, so this vote was "
    "not taken; vote again when they are done"
)


def show_ballot(request: Request, poll: Poll, *, counted: bool, refused: str = "") -> Response:
    """Show the next question without a vote, or what the votes came to where none is left."""
    desk = desk_of(request)
    try:
        voting = see_voting(poll.names, desk.shelf.book, seed=poll.seed, answers=poll.answers)
    except TunebookError as error:
        return desk.page(request, "side_voted.html", result=None, refused=str(error), back="/side")
    if counted or not voting.waiting:
        return _show_result(request, voting, poll)
    ballot = voting.waiting[0]
    return desk.page(
        request,
        "side_vote.html",
        409 if refused else 200,
        refused=refused,
        poll=desk.polls.word_for(poll),
        item=_item(ballot),
        ballot=ballot,
        done=voting.n - len(voting.waiting),
        n=voting.n,
    )


@router.post("/side/vote")
def vote(
    request: Request,
    poll: Annotated[str, Form()],
    vote: Annotated[str, Form()],
    item: Annotated[str, Form()] = "",
) -> Response:
    """Take a vote and go on; what has one already keeps it, whatever is sent again."""
    desk = desk_of(request)
    asked = desk.polls.find(poll)
    if vote not in (*_VOTES, "count"):
        raise UsageError(f"`{vote}` is no vote; it is {', '.join(_VOTES)} or count")
    book, names = desk.shelf.book, asked.names
    counted = vote == "count"
    try:
        # The log refuses a second hand at once, and two tabs would refuse each other.
        opened = open_voting(names, book, seed=asked.seed, answers=asked.answers)
        with desk.polls.casting, opened as voting:
            ballot = next((one for one in voting.waiting if _item(one) == item), None)
            if ballot is not None and vote in _VOTES:
                voting.cast(ballot, vote)
            if counted or (ballot is not None and len(voting.waiting) == 1):
                count_votes(voting, book)
    except Busy:
        return show_ballot(request, asked, counted=False, refused=_BUSY)
    return RedirectResponse(_url(asked, counted=1 if counted else None), 303)


def _show_result(request: Request, voting: Voting, poll: Poll) -> Response:
    desk = desk_of(request)
    values: dict[str, Any] = {"refused": "", "result": None}
    try:
        found = tally_votes(voting)
        details = dict[str, Any](found.details)
        p = details["position_p"]
        values["result"] = {
            "a": poll.names[0],
            "b": poll.names[1],
            "share": scored_text(found.score, found.interval),
            "lead": comparison_text(found.comparison) if found.comparison else "",
            "details": details,
            "waiting": len(voting.waiting),
            "p": None if p is None else format_number(p),
            "biased": p is not None and p < 0.05,
            "go_on": _url(poll),
        }
    except TunebookError as error:
        values["refused"] = str(error)
    back = f"/side?{urlencode({'run': poll.names}, doseq=True)}"
    return desk.page(request, "side_voted.html", **values, back=back)


def _item(ballot: Ballot) -> str:
    """Name a question by what was asked and how it is known, and by nothing that was answered."""
    return hashlib.sha256(f"{ballot.item_id}\0{ballot.item_hash}".encode()).hexdigest()[:24]


def _url(poll: Poll, **more: object) -> str:
    values = {"run": poll.names, "blind": 1, "seed": poll.seed or None, "answers": poll.answers}
    values |= more
    kept = {k: v for k, v in values.items() if v is not None}
    return f"/side?{urlencode(kept, doseq=True)}"
