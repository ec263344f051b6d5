"""In which words an exported model is asked: the template of its run, as its tokenizer's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tunebook.book.data_account import read_data
from tunebook.book.places import RunFolder
from tunebook.data.chat import ChatRenderer
from tunebook.data.render import PlainRenderer, Renderer, choose_renderer
from tunebook.errors import ReleaseRefused
from tunebook.models.fast_encode import TRIAL
from tunebook.models.tokenizer import Codec
from tunebook.recipe.tree import Recipe
from tunebook.records import Example, Message

Chat = list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """What is written as an exported tokenizer's chat template.

    `name` is the template in whose words the export can be asked, None where there is none; `text`
    is what is written, None to leave the tokenizer as it is. `chats` become `ids` in training.
    """

    name: str | None
    text: str | None = None
    chats: tuple[Chat, ...] = ()
    ids: tuple[list[int], ...] = ()


def renderer_of(run: RunFolder, recipe: Recipe, codec: Codec) -> Renderer:
    """Choose what wrote the examples of a run's first source."""
    sources = read_data(run).get("sources") or [{}]
    found = str(sources[0].get("format") or "completion")
    return choose_renderer(recipe.template, found, codec, recipe.stage)


def choose_chat_template(
    run: RunFolder, recipe: Recipe, codec: Codec, say: Callable[[str], None]
) -> ChatTemplate:
    """Write a run's plain template in Jinja, if its tokenizer makes the ids of training of that.

    A tokenizer that does not gets none, and `say` is told. A run that was trained in the
    tokenizer's own chat template keeps it; so does one of stage cpt, which was trained in none.
    """
    renderer = renderer_of(run, recipe, codec)
    if isinstance(renderer, ChatRenderer):
        return ChatTemplate(renderer.name)
    if not isinstance(renderer, PlainRenderer):
        return ChatTemplate(None)
    text = renderer.chat_template()
    pairs = list(_trials(renderer))
    chats = tuple(chat for chat, _ in pairs)
    ids = tuple(found for _, found in pairs)
    for chat, wanted in pairs:
        made = codec.tokenizer.apply_chat_template(
            chat, chat_template=text, add_generation_prompt=True
        )
        if list(made["input_ids"]) != wanted:
            say(
                f"no chat template is exported: of {chat[-1]['content'][:40]!r} in template "
                f"{renderer.name} this tokenizer makes other tokens in one piece than it was "
                "trained on turn by turn"
            )
            return ChatTemplate(None, "")
    return ChatTemplate(renderer.name, text, chats, ids)


def refuse_other_chats(template: ChatTemplate, asked: Sequence[Sequence[int]]) -> None:
    """Raise ReleaseRefused where an exported tokenizer writes talks otherwise than training did."""
    for chat, wanted, found in zip(template.chats, template.ids, asked, strict=True):
        if list(found) != wanted:
            raise ReleaseRefused(
                f"the exported chat template makes {list(found)[:12]} of "
                f"{chat[-1]['content'][:40]!r}, training made {wanted[:12]}; nothing was released"
            )


def _trials(renderer: PlainRenderer) -> Iterator[tuple[Chat, list[int]]]:
    """Write odd texts as talks; one with the string of a special token in it is none of ours."""
    specials = renderer.codec.special_strings
    texts = [text for text in TRIAL if not any(special in text for special in specials)]
    for first, second, third in zip(texts, texts[1:], texts[2:], strict=False):
        talk = [Message("system", first), Message("user", second)]
        if renderer.many_turns:
            # Behind an end token many a tokenizer takes a space away, or adds one.
            talk += [Message("assistant", third.lstrip(" ")), Message("user", first)]
        talk += [Message("knowledge", third)]
        ids = renderer.prompt_ids(Example("trial", "trial", (*talk, Message("assistant", ""))))
        yield [{"role": m.role, "content": m.content} for m in talk], ids
