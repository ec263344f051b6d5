"""The reference page of all filters, from their classes."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from tunebook.data.filters import FILTERS
from tunebook.data.filters.chain import Memory, Rewrite
from tunebook.data.filters.settings import list_settings

_HEAD = """\
# Filters

<!-- Made by tools/make_docs.py from src/tunebook/data/filters: edit those files. -->

A filter keeps a row or gives the reason to drop it; a rewrite changes a row; a memory drops rows by
those before them in the source. They run in the order in which they are named, over every row that
those before them left, and every row is accounted for: rows in = rows dropped by reason + rows out.
A filter that drops nothing and a rewrite that changes nothing are reported.

In a run file, per source:

```yaml
data:
  - path: books/
    filters:
      - repair_special_tokens
      - near_duplicate: {threshold: 0.7, size: 5}
      - loss_band: {scores: scores.jsonl, low: 1.5, high: 2.5}
```

On the command line, with a preview of what rewrites change:

```
tunebook data filter books/ --filter repair_special_tokens --filter near_duplicate:threshold=0.7 \\
    --out kept.jsonl --dropped dropped.jsonl
tunebook data score books/ --model openai-community/gpt2 --out scores.jsonl
tunebook data filter books/ --filter loss_band:scores=scores.jsonl,low=1.5,high=2.5
```

A filter by what is written looks at the answers that are trained on, or at the text. Before any
filter, rows without a prompt, an answer or a text are dropped.
"""


def filters_markdown() -> str:
    """Write the page."""
    lines = [_HEAD, "| filter | kind | what it does |", "|---|---|---|"]
    for name, make in FILTERS.items():
        first = _words(make).partition(". ")[0].partition(".\n")[0].rstrip(".")
        cell = " ".join(first.split()).replace("|", "\\|")
        lines.append(f"| [`{name}`](#{name}) | {_kind(make)} | {cell}. |")
    for name, make in FILTERS.items():
        lines += ["", f"## {name}", "", _words(make)]
        settings = list_settings(make)
        if settings:
            lines += ["", "| setting | default | must be |", "|---|---|---|"]
        for setting in settings:
            default = "must be given" if setting.default is None else f"`{setting.default!r}`"
            lines.append(f"| `{setting.name}` | {default} | {setting.wanted} |")
    return "\n".join(lines) + "\n"


def _words(make: Callable[..., object]) -> str:
    return inspect.cleandoc(make.__doc__ or "")


def _kind(make: object) -> str:
    if isinstance(make, type) and issubclass(make, Rewrite):
        return "rewrite"
    return "memory" if isinstance(make, type) and issubclass(make, Memory) else "filter"
