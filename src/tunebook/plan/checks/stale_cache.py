"""Were the tokens that will be trained made of these files, by these settings?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import orjson

from tunebook.data.build import Built, made_from
from tunebook.data.codec import TextCodec
from tunebook.data.filters import build_filters
from tunebook.data.prepare import token_settings
from tunebook.plan.checks.truncation import ends_early
from tunebook.plan.ends import End, ends, find_text, fresh_rows, text_of
from tunebook.plan.subject import Subject
from tunebook.recipe.tree import Recipe, Source
from tunebook.records import Finding

_WAY_OUT = "delete the cached tokens with `tunebook clean` and plan again"


def check(subject: Subject) -> Iterator[Finding]:
    """Refuse tokens that keep another origin than this run has, or say what no file says."""
    if subject.prepared is None:
        return
    for built, source in zip(subject.prepared.built, subject.recipe.data, strict=True):
        other = _differences(built, source, subject.recipe)
        if other:
            yield Finding(
                "stale-cache",
                "refuse",
                f"the cached tokens of {built.located.path} were made of other "
                f"{', '.join(other)} than this run has",
                {"source": built.name, "differs": other, "cache": built.store.folder.name},
                _WAY_OUT,
            )
    if subject.codec is not None:
        yield from _against_witnesses(subject, subject.codec)


def _differences(built: Built, source: Source, recipe: Recipe) -> list[str]:
    filters = build_filters(source.filters)
    now = made_from(
        built.located,
        built.content_hash,
        source,
        built.detected,
        token_settings(recipe),
        built.renderer,
        filters,
    )
    then = built.store.facts["made_from"]
    plain = orjson.loads(orjson.dumps(now))
    return sorted(key for key in {*plain, *then} if plain.get(key) != then.get(key))


def _against_witnesses(subject: Subject, codec: TextCodec) -> Iterator[Finding]:
    n_seen: dict[str, int] = {}
    strange: dict[str, list[str]] = {}
    for end in ends(subject):
        # Rows that were cut, windowed or rewritten have checks of their own.
        if end.window or end.cut or end.left_out or end.witness.changed_by:
            continue
        if end.in_batch or end.witness.dropped_by is not None:
            continue
        name = end.witness.source
        n_seen[name] = n_seen.get(name, 0) + 1
        fresh = fresh_rows(subject).get(end.id)
        if fresh is not None and np.array_equal(end.ids, fresh):
            continue  # what it does not say, its template leaves out
        if not _says(end, codec) and not ends_early(end, codec):
            strange.setdefault(name, []).append(end.id)
    for name, rows in strange.items():
        yield Finding(
            "stale-cache",
            "refuse",
            f"{len(rows)} of {n_seen[name]} rows of {name} that were read anew do not say in the "
            f"cached tokens what they say in the file, as {rows[0]}",
            {
                "source": name,
                "rows": len(rows),
                "rows_read_anew": n_seen[name],
                "examples": rows[:5],
            },
            _WAY_OUT,
        )


def _says(end: End, codec: TextCodec) -> bool:
    texts = [m.content for m in end.messages if m.role in ("assistant", "text")]
    return not texts or find_text(codec, text_of(codec, end.ids), texts[-1]) is not None
