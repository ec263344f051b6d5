"""Drop rows that carry the markup of the page they were taken from."""

from __future__ import annotations

import re

from tunebook.data.filters.chain import Filter
from tunebook.data.filters.settings import nearest
from tunebook.data.filters.words import trained_texts
from tunebook.records import Example

_TAGS = (
    "a|abbr|b|big|blockquote|body|br|center|cite|code|dd|div|dl|dt|em|font|form|h[1-6]|head|hr|"
    "html|i|iframe|img|input|label|li|link|meta|nobr|ol|option|p|pre|ref|script|select|small|span|"
    "strike|strong|style|sub|sup|table|tbody|td|th|thead|title|tr|tt|u|ul"
)
_KINDS = {
    # Only names that HTML has: `a < b`, <name> and addresses in angle brackets are no markup.
    "html": re.compile(rf"<(?:/(?:{_TAGS})|(?:{_TAGS})(?:\s[^<>]*)?/?)\s*>|<!--", re.IGNORECASE),
    "entity": re.compile(
        r"&(?:amp|lt|gt|quot|apos|nbsp|[mn]dash|hellip|[lr][sd]quo|copy|reg|bull|middot|"
        r"#\d{1,7}|#x[0-9A-Fa-f]{1,6});"
    ),
    # LaTeX writes {{x}} behind a command, a letter, ^ or _; matrices write [[1, 2], ...].
    "wiki": re.compile(
        r"\[\[[^\W\d][^\[\]\n]*\]\]|(?<![\\\w^_{}])\{\{[^\W\d][\w -]{2,}(?:\|[^{}]*)?\}\}|'''|"
        r"^={2,4}[^=\n]+={2,4}[ \t]*$",
        re.MULTILINE,
    ),
    "bbcode": re.compile(
        r"\[/(?:b|i|u|s|url|img|quote|code|color|size|spoiler|list)\]|"
        r"\[(?:url|img|quote|color|size|spoiler)(?:=[^\]\n]*)?\]",
        re.IGNORECASE,
    ),
}
_STARTS = {"html": ("<",), "entity": ("&",), "wiki": ("[[", "{{", "'''", "=="), "bbcode": ("[",)}


class Markup(Filter):
    """Drops rows with leftover markup in an answer (or a text); `kinds` says which is looked for.

    html: tags that HTML has, and comments. entity: `&amp;`, `&#39;` and their like. wiki: links,
    templates, bold and headings of wiki text. bbcode: closing tags, and opening ones of links,
    pictures and quotations. Leave out html for answers that teach it.
    """

    def __init__(self, kinds: str = "html entity wiki bbcode") -> None:
        self.kinds = tuple(kinds.replace(",", " ").split())
        for kind in self.kinds or ("",):
            if kind not in _KINDS:
                raise ValueError(f"kinds has {kind!r}; {nearest(kind, list(_KINDS))}")

    def reason(self, example: Example) -> str | None:
        """Give the reason to drop a row, or None to keep it."""
        for text in trained_texts(example):
            for kind in self.kinds:
                # A look for the first sign is many times faster than the pattern.
                if any(s in text for s in _STARTS[kind]) and _KINDS[kind].search(text):
                    return f"leftover markup ({kind})"
        return None
