"""What `tunebook chat` does: a talk with a run's weights, in the words they were trained in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tunebook.book.data_account import read_data
from tunebook.book.evaluations import open_log, settings_hash
from tunebook.book.places import open_run
from tunebook.data.formats.persona import describe
from tunebook.data.render import Renderer
from tunebook.errors import DataError, UsageError
from tunebook.evaluate.questions import Question
from tunebook.models.generate import Sampling
from tunebook.records import Message
from tunebook.workflows.compare_sides import split_name
from tunebook.workflows.prefixes import warn_of_prefixes
from tunebook.workflows.release_check import cleaned_away
from tunebook.workflows.release_template import renderer_of
from tunebook.workflows.speakers import Trained, open_run_to_ask, voices
from tunebook.workflows.talk import Side, Talk, Turn, refuse_roles
from tunebook.workflows.weights import BASE

Say = Callable[[str], None]

_SAYS_WHAT_IT_IS = ("Persona:", "Scenario:")


@dataclass(frozen=True, slots=True)
class Frame:
    """What stands around a talk: who the model is to be, its first words, a first fact."""

    persona: str | None = None
    opening: str | None = None
    knowledge: str | None = None

    @property
    def given(self) -> list[str]:
        """Name what is there, as the options are called."""
        return [f"--{name}" for name, text in asdict(self).items() if text is not None]


def open_talk(
    name: str,
    book: Path,
    frame: Frame,
    sampling: Sampling,
    *,
    weights: str = "final",
    versus: str | None = None,
    seed: int = 0,
    device: str | None = None,
    by_hand: bool = False,
    say: Say = lambda _text: None,
) -> Talk:
    """Load the weights of a run, and those of `versus` (base, RUN or RUN/best), to be talked to.

    `say` is told what the talk will not be like, such as words that were never trained. Raises
    BookError or UsageError for weights that are not there, for a run held against itself, and for
    parts of the frame that a template has no words for.
    """
    asked = _open_all(name, book, weights, versus, device, say)
    renderers = [renderer_of(one.run, one.recipe, one.codec) for one in asked]
    refuse_roles(dict(zip([one.run.name for one in asked], renderers, strict=True)), frame.given)
    for one, renderer in zip(asked, renderers, strict=True):
        _refuse_unknown_turns(one, renderer, frame)
        _warn_of_words(one, renderer, frame, say)
    sides = []
    for one, renderer in zip(asked, renderers, strict=True):
        say(f"loading {' and '.join(subject.label for subject in one.subjects)}")
        head = _head(one, frame)
        for voice in voices(one, one.subjects):
            sides.append(Side(voice.speaker.subject.label, one, renderer, head, voice))
    talk = Talk(tuple(sides), sampling, seed, frame.opening, by_hand)
    if frame.knowledge is not None:
        talk.know(frame.knowledge)
    for renderer in {r.name: r for r in renderers if not r.many_turns}.values():
        if renderer.name == "text":
            say("stage cpt: each line begins a text, and the model goes on from it")
        else:
            say(f"template {renderer.name} takes one answer: each line is a new question")
    return talk


def save_talk(talk: Talk) -> tuple[Path, int]:
    """Append the turns of a talk to the evaluations of the first model's run, a line each.

    Gives the file, and how many turns were not in it yet. A line has what was asked and answered,
    its own hash as `item_hash`, and that of the turn `after` which it came.
    """
    side = talk.sides[0]
    settings = {
        "weights": [one.voice.speaker.subject.weights for one in talk.sides],
        "models": [one.name for one in talk.sides],
        "templates": [one.renderer.identity for one in talk.sides],
        "precisions": [one.trained.recipe.precision for one in talk.sides],
        "head": [[asdict(message) for message in one.head] for one in talk.sides],
        "opening": talk.opening,
        "sampling": asdict(talk.sampling),
        "seed": talk.seed,
    }
    subject = side.voice.speaker.subject
    n_new, after = 0, ""
    with open_log(subject.run, "chat", subject.name, settings) as log:
        for number, turn in enumerate(talk.turns, 1):
            item_hash = settings_hash({"after": after, **asdict(turn)})
            if not log.has(str(number), item_hash, turn.attempt):
                own = {"item_id": str(number), "item_hash": item_hash, "repeat": turn.attempt}
                log.add([{**own, "after": after, "time": _now(), **plain_turn(number, turn)}])
                n_new += 1
            after = item_hash
        return log.path, n_new


def plain_turn(number: int, turn: Turn) -> dict[str, Any]:
    """Give a turn for JSON, with its number from 1."""
    return {"turn": number, **asdict(turn)}


def _open_all(
    name: str, book: Path, weights: str, versus: str | None, device: str | None, say: Say
) -> list[Trained]:
    """Find the run and what it is held against; base and weights of one run are opened together."""
    if versus in (None, BASE):
        wanted = {name: [weights] if versus is None else [weights, BASE]}
    else:
        other, chosen, *_ = split_name(str(versus))
        wanted = {name: [weights]}
        wanted[other] = [*wanted.get(other, []), chosen]
    if any(len(set(names)) < len(names) for names in wanted.values()):
        raise UsageError(f"--vs {versus} is what is talked to already; name other weights")
    return [
        open_run_to_ask(open_run(book, run), names, device=device, say=say)
        for run, names in wanted.items()
    ]


def _head(one: Trained, frame: Frame) -> tuple[Message, ...]:
    """Write who the model is to be as its data does: personas with their word in front."""
    if frame.persona is None:
        return ()
    formats = [source.get("format") for source in read_data(one.run).get("sources", [])]
    if formats[:1] == ["persona"] and not frame.persona.startswith(_SAYS_WHAT_IT_IS):
        return tuple(describe(frame.persona, ""))
    return (Message("system", frame.persona),)


def _first_question(head: Sequence[Message], frame: Frame) -> Question:
    opening = [Message("assistant", frame.opening)] if frame.opening else []
    facts = [Message("knowledge", frame.knowledge)] if frame.knowledge else []
    return Question("first", (*head, *opening, Message("user", "Hello."), *facts))


def _refuse_unknown_turns(one: Trained, renderer: Renderer, frame: Frame) -> None:
    """Raise UsageError where a model's own chat template refuses what stands around the talk."""
    try:
        _first_question(_head(one, frame), frame).prompt_ids(renderer)
    except DataError:
        if not frame.given:
            raise
        raise UsageError(
            f"{' and '.join(frame.given)}: the chat template of {one.run.name} takes no such "
            "message first; leave it out"
        ) from None


def _warn_of_words(one: Trained, renderer: Renderer, frame: Frame, say: Say) -> None:
    """Say what of the frame stands in words that the run was never trained on."""
    # Tokens that would have to be made anew for it take longer than the talk.
    if frame.given and not cleaned_away(one.run):
        warn_of_prefixes(one, [_first_question(_head(one, frame), frame)], renderer, say)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
