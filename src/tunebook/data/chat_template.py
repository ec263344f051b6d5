"""A plain template as a chat template in Jinja, for whoever serves the model without this project.

It writes what `PlainRenderer` writes, the end token after each answer included, so that a server
asks in the words of training. Two things it cannot do as training does. The strings of special
tokens inside a message become those tokens, as in every chat template. And an answer that begins
with the space that stands before answers is taken to have it already: servers hand answers back
with that space, and their clients send it again.
"""

from __future__ import annotations

import json
from typing import Protocol

ROLES = ("system", "user", "input", "knowledge", "assistant")
"""The roles of messages that the templates take; `input` and `knowledge` are ours."""


class Words(Protocol):
    """The words around each role; see `tunebook.data.render`."""

    @property
    def with_input(self) -> tuple[str, str, str]:
        """Before what is asked, before the material, and after it."""
        ...

    @property
    def without_input(self) -> tuple[str, str]:
        """Before what is asked, and after it."""
        ...

    @property
    def system(self) -> tuple[str, str]:
        """Before and after a system message."""
        ...

    @property
    def between(self) -> str:
        """Before every exchange but the first."""
        ...

    @property
    def answer(self) -> str:
        """Before an answer."""
        ...

    @property
    def many_turns(self) -> bool:
        """Whether messages are written one to a line, with as many answers as there are."""
        ...


def write_chat_template(name: str, words: Words, knowledge: str, *, begin: bool) -> str:
    """Write a plain template in Jinja, on one line; `begin` puts the begin token in front.

    `knowledge` stands before a knowledge message. Messages of other roles and contents that are no
    text are refused by the template itself; so is a second answer where the template takes one.
    """
    body = (
        _many_turns(words, knowledge) if words.many_turns else _one_answer(name, words, knowledge)
    )
    return "".join(["{{- bos_token -}}" if begin else "", *body])


def _many_turns(words: Words, knowledge: str) -> list[str]:
    before, after = words.without_input
    between = [f"{{%- if talk.begins and talk.answers -%}}{_out(words.between)}{{%- endif -%}}"]
    return [
        "{%- set talk = namespace(begins=true, answers=0, last='') -%}",
        "{%- for message in messages -%}",
        *_checked(),
        *between,
        "{%- set talk.begins = false -%}",
        "{%- if message.role == 'assistant' -%}",
        _out(after),
        *_answer(words),
        "{%- set talk.answers = talk.answers + 1 -%}",
        "{%- set talk.begins = true -%}",
        "{%- elif message.role == 'system' -%}",
        f"{_out(words.system[0])}{{{{- message.content -}}}}{_out(words.system[1])}",
        "{%- elif message.role == 'knowledge' -%}",
        f"{_out(knowledge)}{{{{- message.content -}}}}{_out(chr(10))}",
        "{%- elif message.role == 'input' or talk.last == 'user' -%}",
        f"{{{{- message.content -}}}}{_out(chr(10))}",
        "{%- else -%}",
        f"{_out(before)}{{{{- message.content -}}}}{_out(chr(10))}",
        "{%- endif -%}",
        "{%- set talk.last = '' if message.role == 'assistant' else message.role -%}",
        "{%- endfor -%}",
        "{%- if add_generation_prompt -%}",
        *between,
        _out(after),
        "{%- endif -%}",
    ]


def _one_answer(name: str, words: Words, knowledge: str) -> list[str]:
    before, middle, after = words.with_input
    alone = _quoted(f"template {name} takes one question and one answer; send the question alone")
    return [
        "{%- set row = namespace(user=[], material=[], answers=0) -%}",
        "{%- for message in messages -%}",
        *_checked(),
        "{%- if row.answers -%}",
        f"{{{{- raise_exception({alone}) -}}}}",
        "{%- elif message.role == 'assistant' -%}",
        "{%- set row.answers = 1 -%}",
        "{%- elif message.role == 'system' -%}",
        f"{_out(words.system[0])}{{{{- message.content -}}}}{_out(words.system[1])}",
        "{%- elif message.role == 'user' -%}",
        "{%- set row.user = row.user + [message.content] -%}",
        "{%- elif message.role == 'knowledge' -%}",
        f"{{%- set row.material = row.material + [{_quoted(knowledge)} + message.content] -%}}",
        "{%- else -%}",
        "{%- set row.material = row.material + [message.content] -%}",
        "{%- endif -%}",
        "{%- endfor -%}",
        "{%- if row.answers and add_generation_prompt -%}",
        f"{{{{- raise_exception({alone}) -}}}}",
        "{%- endif -%}",
        f"{{%- set material = row.material | join({_quoted(chr(10))}) -%}}",
        f"{{%- set asked = row.user | join({_quoted(chr(10))}) -%}}",
        "{%- if material -%}",
        f"{_out(before)}{{{{- asked -}}}}{_out(middle)}{{{{- material -}}}}",
        "{%- else -%}",
        f"{_out(words.without_input[0])}{{{{- asked -}}}}",
        "{%- endif -%}",
        "{%- if row.answers or add_generation_prompt -%}",
        f"{{{{- {_quoted(after)} if material else {_quoted(words.without_input[1])} -}}}}",
        "{%- endif -%}",
        "{%- if row.answers -%}",
        "{%- set message = messages[-1] -%}",
        *_answer(words),
        "{%- endif -%}",
    ]


def _checked() -> list[str]:
    """Refuse a message of an unknown role, or whose content is a list of parts."""
    known = f"a message has a role of {', '.join(ROLES)}, and text as its content"
    return [
        f"{{%- if message.role not in {list(ROLES)!r} or message.content is not string -%}}",
        f"{{{{- raise_exception({_quoted(known)}) -}}}}",
        "{%- endif -%}",
    ]


def _answer(words: Words) -> list[str]:
    space = _quoted(words.answer)
    own = [f"{{{{- '' if message.content.startswith({space}) else {space} -}}}}"]
    return [*(own if words.answer else []), "{{- message.content -}}", "{{- eos_token -}}"]


def _out(text: str) -> str:
    return f"{{{{- {_quoted(text)} -}}}}" if text else ""


def _quoted(text: str) -> str:
    """Write text as a string of Jinja, which knows the escapes of JSON."""
    return json.dumps(text)
