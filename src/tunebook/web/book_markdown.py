"""Markdown of the book as HTML: no text in it becomes markup, and its links lead to pages here."""

from __future__ import annotations

import functools
import posixpath
import re
from collections.abc import Collection, MutableMapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from markdown_it import MarkdownIt
from markdown_it.rules_core import StateCore
from markdown_it.token import Token
from markupsafe import Markup

from tunebook.pages.run_result import BRAILLE

SHOWN_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,60}\.(svg|png)")
"""Pictures that a page of a run may show: a plain name, without a way out of the run's folder."""

MOST_LETTERS = 256 << 10
"""What is rendered of one text; the page of a run has some twenty thousand letters."""
MOST_INLINE = 4 << 10
"""Letters of a paragraph whose words are formatted: each open `[` is looked for to the end."""
MOST_BRACKETS = 256
"""Left brackets of such a paragraph: what an open one costs grows with those that follow it."""
MOST_PLAIN = 16 << 10
"""Letters of a paragraph with `MOST_SIGNS` of what formats words, or fewer: plain prose."""
MOST_SIGNS = 16
_SIGNS = re.compile(r"[\[\]*_!<&`\\]")
MOST_OF_ADDRESSES = 256 << 10
"""Letters of all addresses in one text: one that is named once may be linked by every `[a]`."""
_KEPT_LETTERS = 64 << 10
_TOO_LONG = "This is too long to be formatted, and stands here as it was written."

FIGURE = "curve.svg"
_RUN = re.compile(r"runs/([A-Za-z0-9][A-Za-z0-9._-]{0,99})(/notebook\.md)?")
_ELSEWHERE = ("http", "https", "mailto")

Env = MutableMapping[str, Any]


@dataclass(slots=True)
class Sheet:
    """One file that pages of several runs stand in, below a heading of their own.

    Links lead to places in it, of the `runs` that are there; `figure` is the HTML of a run's
    figure, empty where there is none. `ids` are those that are taken, and how often each was asked.
    """

    runs: Collection[str]
    figure: str = ""
    ids: dict[str, int] = field(default_factory=dict)


def render(text: str, run: str | None = None, sheet: Sheet | None = None) -> Markup:
    """Render Markdown that lies in the folder of a run, or of the book.

    Tags in it are shown as text, and so are pictures but those of the run's own folder; links that
    lead to no page here and to no other site are plain words. A curve in braille is left out below
    the figure that shows the same. What is longer than `MOST_LETTERS` is shown as text, and so is a
    paragraph of more than `MOST_INLINE` letters (`MOST_PLAIN` in plain prose) or `MOST_BRACKETS`:
    others' pages must not keep the server at work.
    """
    if sheet is None and len(text) <= _KEPT_LETTERS:
        return _rendered(text, run)
    return _render(text, run, sheet)


def _render(text: str, run: str | None, sheet: Sheet | None) -> Markup:
    if len(text) > MOST_LETTERS:
        return Markup('<p><em>{}</em></p>\n<pre tabindex="0">{}</pre>\n').format(_TOO_LONG, text)
    env: Env = {
        "run": run, "open": [], "sheet": sheet, "figure": False, "drawn": False,
        "left": MOST_OF_ADDRESSES,
    }  # fmt: skip
    return Markup(_reader().render(text, env))


@functools.lru_cache(maxsize=128)
def _rendered(text: str, run: str | None) -> Markup:
    # Half of what a page costs, and a page that is asked for again has mostly the same sections.
    return _render(text, run, None)


def sections(text: str) -> list[tuple[str, str]]:
    """List the headings of the second level, each with the id that `render` gives it."""
    tokens = _reader().parse(text) if len(text) <= MOST_LETTERS else []
    return [
        (_id_of(words.content), words.content)
        for token, words in zip(tokens, tokens[1:], strict=False)
        if token.type == "heading_open" and token.tag == "h2"
    ]


def page_of(href: str, run: str | None) -> str | None:
    """Find where a link of the book leads on this server; None where there is no page for it."""
    parts = urlsplit(href)
    if parts.scheme in _ELSEWHERE:
        return href
    if parts.scheme or parts.netloc or not parts.path or parts.path.startswith("/"):
        return None
    folder = f"runs/{run}" if run else ""
    path = posixpath.normpath(posixpath.join(folder, unquote(parts.path)))
    if path == "notebook.md":
        return "/notebook"
    found = _RUN.fullmatch(path)
    if found is None:
        return None
    return f"/{'notebook' if found[2] else 'runs'}/{found[1]}"


@functools.cache
def _reader() -> MarkdownIt:
    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    rules = {
        "link_open": _link_open,
        "link_close": _link_close,
        "image": _image,
        "fence": _fence,
        "heading_open": _heading,
        "heading_close": lambda tokens, at, _options, env: f"</{_level(tokens[at].tag, env)}>\n",
        "table_open": lambda *_: '<div class="scroll" tabindex="0"><table>\n',
        "table_close": lambda *_: "</table></div>\n",
        "th_open": _cell,
        "td_open": _cell,
    }
    reader.core.ruler.at("inline", _format_words)
    for name, rule in rules.items():
        reader.add_render_rule(name, lambda _self, *given, rule=rule: rule(*given))
    return reader


def _format_words(state: StateCore) -> None:
    """Parse the words of every block, but of one that is too long."""
    for token in state.tokens:
        if token.type != "inline":
            continue
        token.children = []
        if _is_short(token.content):
            state.md.inline.parse(token.content, state.md, state.env, token.children)
        else:
            token.children += [
                Token("em_open", "em", 1),
                Token("text", "", 0, content=_TOO_LONG),
                Token("em_close", "em", -1),
                Token("hardbreak", "br", 0),
                Token("text", "", 0, content=token.content),
            ]


def _is_short(words: str) -> bool:
    if len(words) <= MOST_INLINE:
        return words.count("[") <= MOST_BRACKETS
    if "[" in words:  # a few that are looked for through so many lines cost seconds
        return False
    return len(words) <= MOST_PLAIN and len(_SIGNS.findall(words)) <= MOST_SIGNS


def _id_of(heading: str) -> str:
    return re.sub(r"\W+", "-", heading.lower()).strip("-") or "section"


def _level(tag: str, env: Env) -> str:
    return tag if env["sheet"] is None else f"h{min(int(tag[1]) + 1, 6)}"


def _heading(tokens: Sequence[Token], at: int, _options: Any, env: Env) -> str:
    sheet, id_ = env["sheet"], _id_of(tokens[at + 1].content)
    if sheet is not None:
        # No name of a run and no heading can make another's id: two dashes stand only here.
        first = id_ = f"in-{env['run'] or ''}--{id_}"
        number = sheet.ids.get(first, 1)
        while id_ in sheet.ids:
            number += 1
            id_ = f"{first}--{number}"
        sheet.ids[id_], sheet.ids[first] = 1, number
    return f'<{_level(tokens[at].tag, env)} id="{escape(id_)}">'


def _link_open(tokens: Sequence[Token], at: int, _options: Any, env: Env) -> str:
    href = str(tokens[at].attrGet("href") or "")
    if not _has_room(href, env):
        env["open"].append(None)
        return '<span class="file">'
    url = page_of(href, env["run"])
    if env["sheet"] is not None and url is not None and url.startswith("/"):
        url = _place_in(env["sheet"], url)
    env["open"].append(url)
    if url is None:
        return f'<span class="file" title="{escape(href)}">'
    away = "" if url.startswith(("/", "#")) else ' rel="noopener noreferrer"'
    return f'<a href="{escape(url)}"{away}>'


def _has_room(address: str, env: Env) -> bool:
    env["left"] -= len(address)
    return bool(env["left"] >= 0)


def _place_in(sheet: Sheet, url: str) -> str | None:
    name = url.rpartition("/")[2]
    if url == "/notebook":
        return "#top"
    return f"#run-{name}" if name in sheet.runs else None


def _link_close(_tokens: Sequence[Token], _at: int, _options: Any, env: Env) -> str:
    return "</span>" if env["open"].pop() is None else "</a>"


def _image(tokens: Sequence[Token], at: int, _options: Any, env: Env) -> str:
    source, said = str(tokens[at].attrGet("src") or ""), tokens[at].content
    if not _has_room(source, env):
        return escape(f"![{said}]")
    if env["sheet"] is not None:
        env["figure"] = source == FIGURE and bool(env["sheet"].figure)
        if not env["figure"] or env["drawn"]:
            return escape(f"![{said}]({source})")
        env["drawn"] = True
        return str(env["sheet"].figure)
    if env["run"] and SHOWN_FILE.fullmatch(source):
        env["figure"] = source == FIGURE
        url = f"/notebook/{quote(env['run'])}/{source}"
        return f'<img src="{escape(url)}" alt="{escape(said)}" loading="lazy">'
    return escape(f"![{said}]({source})")


def _fence(tokens: Sequence[Token], at: int, _options: Any, env: Env) -> str:
    text = f'<pre tabindex="0"><code>{escape(tokens[at].content)}</code></pre>\n'
    if tokens[at].info.strip() == BRAILLE and env["figure"]:
        return ""
    if tokens[at].info.strip() != "mermaid":
        return text
    if env["sheet"] is not None:
        return '<p><a href="#lineage">Drawn under lineage</a></p>\n'
    url = f"/lineage?run={quote(env['run'])}" if env["run"] else "/lineage"
    return f'<p><a href="{url}">Drawn on the page of lineage</a></p>\n'


def _cell(tokens: Sequence[Token], at: int, _options: Any, _env: Env) -> str:
    # Alignment comes as an inline style, which the Content-Security-Policy forbids.
    right = "right" in str(tokens[at].attrGet("style") or "")
    tag = tokens[at].tag
    return f"<{tag}" + ' scope="col"' * (tag == "th") + ' class="n"' * right + ">"
