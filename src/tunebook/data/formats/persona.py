"""Conversations with a persona, a scenario, knowledge and declared roles.

Each answer becomes an example of its own: what was said before is context, earlier answers too, and
persona and scenario stay in front however much of the talk is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from tunebook.data.formats.broken import lacking_key, not_text
from tunebook.data.formats.chat import build_chat
from tunebook.data.formats.shape import DOCUMENT, Shape, Turns, text_of
from tunebook.errors import DataError
from tunebook.recipe.tree import Source
from tunebook.records import Message, Role

if TYPE_CHECKING:
    from tunebook.data.rows import RawRow

_SPEAKER_KEYS = ("speaker", "role", "from", "agent", "name")
_SAID_KEYS = ("text", "content", "value", "message", "utterance")

# Of two numbered speakers the second answers; `roles:` says otherwise.
_KNOWN: Mapping[str, Role] = {
    **dict.fromkeys(("user", "human", "customer", "you", "user 1", "user_1"), "user"),
    **dict.fromkeys(("agent_1", "agent 1", "speaker_1", "speaker 1"), "user"),
    **dict.fromkeys(("assistant", "bot", "gpt", "model", "user 2", "user_2"), "assistant"),
    **dict.fromkeys(("agent_2", "agent 2", "speaker_2", "speaker 2"), "assistant"),
    **dict.fromkeys(("knowledge", "relevant knowledge"), "knowledge"),
    "system": "system",
}
_TALKING = ("user", "assistant")
_SHOWN_NAMES = 3


def build(row: RawRow, mapping: Mapping[str, str], source: Source) -> list[Turns]:
    """Build one example per answer of a list of turns, each with a speaker and what was said."""
    talk = _read_turns(row, mapping)
    roles = resolve_roles([speaker for speaker, *_ in talk], source.roles, row.place)
    head = _head(row, mapping, roles)
    turns = []
    for speaker, said, knowledge in talk:
        role = roles[speaker]
        if knowledge and role == "assistant":
            turns.append(Message("knowledge", knowledge))
        turns.append(Message(role, said))
    return one_per_answer(head, turns)


def build_grounded(row: RawRow, mapping: Mapping[str, str], source: Source) -> list[Turns]:
    """Build one example of a message, the knowledge it is answered from, and the answer."""
    said = [text_of(row, "persona", key, mapping) for key in ("message", "knowledge", "response")]
    message, knowledge, response = said
    turns = [
        Message("user", message),
        *([Message("knowledge", knowledge)] if knowledge.strip() else []),
        Message("assistant", response),
    ]
    return one_per_answer(_head(row, mapping, {}), turns)


def one_per_answer(head: Sequence[Message], turns: Iterable[Message]) -> list[Turns]:
    """Make an example of each answer; a talk without an answer is one example without a target.

    Turns of one speaker in a row are one turn: models learn to answer in turns.
    """
    talk = _join_turns(turns)
    found: list[Turns] = []
    for place, message in enumerate(talk):
        if message.role == "assistant":
            before = [
                Message(m.role, m.content, trained=False) if m.role == "assistant" else m
                for m in talk[:place]
            ]
            # What the first answer answers is all there is: without it nothing asks for the answer.
            window_from = len(head) if found else None
            found.append(Turns((*head, *before, message), window_from))
    return found or [Turns((*head, *talk))]


def _join_turns(turns: Iterable[Message]) -> list[Message]:
    joined: list[Message] = []
    for message in turns:
        if joined and joined[-1].role == message.role and message.role in _TALKING:
            joined[-1] = Message(message.role, f"{joined[-1].content}\n{message.content}")
        else:
            joined.append(message)
    return joined


def describe(persona: str, scenario: str, label: str = "Scenario") -> list[Message]:
    """Write persona and scenario as what stands before a talk; blank ones are left out."""
    return [
        Message("system", f"{name}: {said}")
        for name, said in (("Persona", persona.strip()), (label, scenario.strip()))
        if said
    ]


def resolve_roles(
    speakers: Iterable[str], declared: Mapping[str, Role], place: str
) -> dict[str, Role]:
    """Say what each speaker of a talk is: as declared, else by name, else by who speaks first.

    Raises DataError when that leaves a speaker without a role.
    """
    names = list(dict.fromkeys(speakers))
    roles: dict[str, Role] = {}
    for name in names:
        role = declared.get(name) or _KNOWN.get(name.strip().lower())
        if role is not None:
            roles[name] = role
    unknown = [name for name in names if name not in roles]
    talking = [role for role in roles.values() if role in _TALKING]
    if len(unknown) == 2 and not talking:
        roles |= {unknown[0]: "user", unknown[1]: "assistant"}
    elif len(unknown) == 1 and len(set(talking)) < 2 and not (declared and unknown[0] in declared):
        roles[unknown[0]] = "user" if "assistant" in talking or not talking else "assistant"
    elif unknown:
        raise DataError(
            f"{place}: who answers is not clear with the speakers {', '.join(names)}; say "
            f"`roles: {{{unknown[0]}: user, {unknown[-1]}: assistant}}`"
        )
    return roles


def say_roles(rows: Sequence[RawRow], mapping: Mapping[str, str], source: Source) -> str:
    """Say who answers in the talks that were looked at.

    Raises DataError when that is not clear in one of them.
    """
    found: dict[str, set[str]] = {}
    for row in rows:
        talk = _read_turns(row, mapping)
        roles = resolve_roles([speaker for speaker, *_ in talk], source.roles, row.place)
        for name, role in roles.items():
            found.setdefault(role, set()).add(name)
    answers, asks = (_list_names(found.get(role, set())) for role in ("assistant", "user"))
    others = [
        f"{_list_names(found[role])} is {role}" for role in ("knowledge", "system") if role in found
    ]
    return "; ".join([f"{answers} answers {asks} (`roles:` changes that)", *others])


def _list_names(names: set[str]) -> str:
    if len(names) > _SHOWN_NAMES:
        return f"each of {len(names)} speakers"
    return " or ".join(sorted(names)) or "nobody"


def _read_turns(row: RawRow, mapping: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Give speaker, what was said and the knowledge behind it for every turn of a row."""
    column = mapping.get("turns", "turns")
    if column not in row.values:
        raise lacking_key(row, "persona", mapping, "turns")
    turns = row.values[column]
    if not isinstance(turns, list) or not turns:
        raise DataError(f"{row.place}: {column} is not a list of turns, or an empty one")
    return [_read_turn(row, column, place, turn) for place, turn in enumerate(turns, start=1)]


def _read_turn(row: RawRow, column: str, place: int, turn: object) -> tuple[str, str, str]:
    who, what = _keys_of(turn)
    if not isinstance(turn, dict) or who is None or what is None:
        raise DataError(
            f"{row.place}: turn {place} of {column} needs a speaker ({', '.join(_SPEAKER_KEYS)}) "
            f"and what was said ({', '.join(_SAID_KEYS)})"
        )
    for key in (who, what):
        if not isinstance(turn[key], str):
            raise not_text(row, f"{key} of turn {place}", turn[key])
    return turn[who], turn[what], _joined(row, turn.get("knowledge"), f"knowledge of turn {place}")


def _keys_of(turn: object) -> tuple[str | None, str | None]:
    keys = turn if isinstance(turn, dict) else {}
    who = next((key for key in _SPEAKER_KEYS if key in keys), None)
    return who, next((key for key in _SAID_KEYS if key in keys and key != who), None)


def _head(row: RawRow, mapping: Mapping[str, str], roles: Mapping[str, Role]) -> list[Message]:
    column = next(
        (c for n in ("persona", "personas") if (c := mapping.get(n, n)) in row.values), ""
    )
    persona = row.values.get(column)
    if isinstance(persona, dict):
        # A persona for each speaker: those who answer are the ones the model is to be.
        persona = [
            _joined(row, said, f"{column} of {name}")
            for name, said in persona.items()
            if roles.get(name, "assistant") == "assistant"
        ]
    scenario_column = mapping.get("scenario", "scenario")
    scenario = _joined(row, row.values.get(scenario_column), scenario_column)
    return describe(_joined(row, persona, column), scenario)


def _joined(row: RawRow, value: object, what: str) -> str:
    """Join a text or a list of texts to one text; nothing is an empty text."""
    if value is None:
        return ""
    parts = value if isinstance(value, list) else [value]
    said = []
    for part in parts:
        if not isinstance(part, str):
            raise not_text(row, what, part)
        said.append(part.strip())
    return " ".join(filter(None, said))


def _is_written(values: Mapping[str, object], columns: Mapping[str, str]) -> bool:
    return values.get("format") == "persona" and isinstance(values.get("messages"), list)


def _has_turns(values: Mapping[str, object], columns: Mapping[str, str]) -> bool:
    turns = values.get(columns.get("turns", "turns"))
    return isinstance(turns, list) and bool(turns) and None not in _keys_of(turns[0])


_HEAD = ("persona", "personas", "scenario")
SHAPES = (
    Shape("persona", ("turns",), build, optional=_HEAD, fits=_has_turns),
    Shape(
        "persona", ("turns",), build, optional=_HEAD, fits=_has_turns, columns={"turns": "content"}
    ),
    Shape(
        "persona",
        ("knowledge", "message", "response"),
        build_grounded,
        optional=_HEAD,
        about="the knowledge stands before the answer",
    ),
    Shape(
        "persona",
        ("messages", "format"),
        build_chat,
        optional=("window_from", DOCUMENT),
        fits=_is_written,
        about="one answer to a row, as tunebook writes them",
    ),
)
