"""A talk with one or more models: what was said, what each is asked, and what it answers.

Each remembers its own answers. A model reads a talk as its training wrote one; a talk that is too
long loses its oldest turns as rows of training do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from tunebook.data.render import Renderer
from tunebook.data.window import count_to_leave_out, most_to_leave_out, without_oldest
from tunebook.errors import UsageError
from tunebook.models.generate import Continuation, Sampling, end_ids, generate
from tunebook.records import Example, Message
from tunebook.workflows.speakers import Trained, Voice

Told = Callable[[str, str], None]
"""Called after every token with the name of who speaks and what it has said so far."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one model said; `ended` is False where it was cut, `stopped` where Ctrl-C did that.

    `messages_left_out` counts the oldest messages there was no room for, `tokens_left_out` the
    oldest tokens of a question that alone was too long.
    """

    name: str
    text: str
    ids: tuple[int, ...]
    tokens: int
    ended: bool
    stopped: bool
    messages_left_out: int
    tokens_left_out: int


@dataclass(frozen=True, slots=True)
class Turn:
    """What was asked, the knowledge that was stated for it, and what each model said.

    `attempt` counts from 0 how often it was answered again; with the place of the turn it decides
    the `seed`, which is the same for all.
    """

    asked: str
    knowledge: tuple[str, ...]
    attempt: int
    seed: int
    answers: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class Side:
    """One of the models; `head` is who it is to be, which always stays in front of the talk."""

    name: str
    trained: Trained
    renderer: Renderer
    head: tuple[Message, ...]
    voice: Voice

    @property
    def limit(self) -> int:
        """How many tokens a talk may have: those of a row in training, fewer of a smaller model."""
        context = self.voice.speaker.loaded.context_length
        longest = self.trained.recipe.max_seq_len
        return longest if context is None else min(longest, context)


@dataclass
class Talk:
    """A talk; `opening` is the models' first message, `waiting` knowledge for the next answer.

    Where a template takes a single answer every turn is a question of its own. With `by_hand` a
    Ctrl-C ends an answer, and the talk goes on with what was said of it; else it ends the talk.
    """

    sides: tuple[Side, ...]
    sampling: Sampling
    seed: int = 0
    opening: str | None = None
    by_hand: bool = False
    turns: list[Turn] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)

    @property
    def many_turns(self) -> bool:
        """Whether all were trained on talks of many turns."""
        return all(side.renderer.many_turns for side in self.sides)

    def ask(self, text: str, told: Told | None = None) -> Turn:
        """Let all answer, and remember it."""
        turn = self._answered(text, tuple(self.waiting), 0, told)
        self.waiting.clear()
        self.turns.append(turn)
        return turn

    def ask_again(self, told: Told | None = None) -> Turn:
        """Let all answer the last question once more, with another seed.

        Raises UsageError where there is none, or where the answer would be the same.
        """
        if not self.turns:
            raise UsageError("nothing was asked yet, so there is nothing to answer again")
        if not self.sampling.temperature:
            raise UsageError(
                "at temperature 0 the answer is always the likeliest one, whatever the seed; start "
                "with --temperature 0.7"
            )
        last = self.turns.pop()
        try:
            turn = self._answered(last.asked, last.knowledge, last.attempt + 1, told)
        except BaseException:
            self.turns.append(last)
            raise
        self.turns.append(turn)
        return turn

    def know(self, text: str) -> None:
        """State knowledge for the next answer; UsageError where a template has no such turns."""
        refuse_roles({side.name: side.renderer for side in self.sides}, ["/knowledge"])
        self.waiting.append(text)

    def undo(self) -> Turn:
        """Forget the last question with its answers; UsageError where there is none."""
        if not self.turns:
            raise UsageError("nothing was said yet, so there is nothing to take back")
        return self.turns.pop()

    def reset(self) -> None:
        """Forget everything but the persona and the opening."""
        self.turns.clear()
        self.waiting.clear()

    def messages(self, place: int) -> list[Message]:
        """Give what the model at a place remembers of the talk, without its head."""
        found = [Message("assistant", self.opening, trained=False)] if self.opening else []
        for turn in self.turns if self.sides[place].renderer.many_turns else []:
            found += _asked(turn.asked, turn.knowledge)
            found.append(Message("assistant", turn.answers[place].text, trained=False))
        return found

    def _answered(
        self, text: str, knowledge: Sequence[str], attempt: int, told: Told | None
    ) -> Turn:
        seed = _seed(self.seed, len(self.turns), attempt)
        answers = []
        for place, side in enumerate(self.sides):
            talk = (*side.head, *self.messages(place), *_asked(text, knowledge))
            prompt, n_out = _prompt(side, talk, self.sampling.max_new_tokens)
            found, stopped = self._write(side, prompt, seed, told)
            answers.append(
                Answer(
                    name=side.name,
                    text=_shown(side, found.ids).strip(),
                    ids=found.ids,
                    tokens=len(found.ids),
                    ended=found.ended,
                    stopped=stopped,
                    messages_left_out=n_out,
                    tokens_left_out=found.left_out,
                )
            )
        return Turn(text, tuple(knowledge), attempt, seed, tuple(answers))

    def _write(
        self, side: Side, prompt: Sequence[int], seed: int, told: Told | None
    ) -> tuple[Continuation, bool]:
        """Let a model go on from a prompt; tells whether it was stopped by hand."""
        loaded = side.voice.speaker.loaded
        ends = end_ids(loaded, side.trained.codec.eos_id)
        so_far: list[int] = []

        def heard(_number: int, ids: list[int]) -> None:
            so_far[:] = [i for i in ids if i not in ends]
            if told is not None:
                told(side.name, _shown(side, so_far).lstrip())

        most = self.sampling.max_new_tokens
        if loaded.context_length is not None:
            room = loaded.context_length - len(prompt)
            most = min(most, room if room > 0 else loaded.context_length // 2)
        sampling = replace(self.sampling, max_new_tokens=most)
        with side.voice.speaking():
            try:
                [(_, found)] = generate(loaded, [prompt], sampling, ends, [seed], told=heard)
            except KeyboardInterrupt:
                if not self.by_hand:
                    raise
                return Continuation(tuple(so_far), False), True
        return found, False


def refuse_roles(renderers: dict[str, Renderer], wanted: Sequence[str]) -> None:
    """Raise UsageError where a template of those asked has no words for what is wanted."""
    for name, renderer in renderers.items():
        if wanted and not renderer.many_turns:
            trained = "on text" if renderer.name == "text" else f"in template {renderer.name}"
            raise UsageError(
                f"{wanted[0]}: {name} was trained {trained}, which has no such turns (templates "
                "chat, persona and model have); leave it out"
            )


def _asked(text: str, knowledge: Sequence[str]) -> list[Message]:
    return [Message("user", text), *(Message("knowledge", fact) for fact in knowledge)]


def _prompt(side: Side, talk: Sequence[Message], max_new_tokens: int) -> tuple[list[int], int]:
    """Tokenize a talk up to the next answer, the oldest messages left out where it is too long.

    Half of the room is the talk's at the least, however long answers may be. Gives how many
    messages were left out.
    """
    if not side.renderer.many_turns:
        return side.renderer.prompt_ids(talk[-1].content), 0
    example = Example("talk", "talk", (*talk, Message("assistant", "")), len(side.head))
    ids = side.renderer.prompt_ids(example)
    room = side.limit - min(max_new_tokens, side.limit // 2)
    if len(ids) <= room:
        return ids, 0

    def fits(shorter: Example) -> bool:
        return len(side.renderer.prompt_ids(shorter)) <= room

    n_out = count_to_leave_out(example, fits) or most_to_leave_out(example)
    return side.renderer.prompt_ids(without_oldest(example, n_out)), n_out


def _shown(side: Side, ids: Sequence[int]) -> str:
    """Write an answer as text, special tokens left out."""
    codec = side.trained.codec
    return codec.decode([i for i in ids if i not in codec.special_ids])


def _seed(seed: int, place: int, attempt: int) -> int:
    text = f"{seed} {place} {attempt}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "little")
