"""The data of a run: prepared, held against what it was before, and written down."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from tunebook.accounts import PartsAccount, Slice
from tunebook.book.atomic import write_atomically
from tunebook.book.by_source import tally_sources
from tunebook.book.content import short
from tunebook.book.data_account import describe_changes, read_data
from tunebook.book.events import Events, read_events
from tunebook.book.places import RunFolder
from tunebook.book.run_file import weight_parent
from tunebook.data.build import Progress, Say
from tunebook.data.codec import TextCodec
from tunebook.data.prepare import Prepared, prepare
from tunebook.errors import DataError, ResumeRefused
from tunebook.models.tokenizer import Codec
from tunebook.plan.checks.split_leak import count_overlap
from tunebook.recipe.tree import Recipe


def prepare_run_data(
    run: RunFolder,
    recipe: Recipe,
    environment: Mapping[str, object],
    codec: TextCodec,
    before: Events,
    say: Say,
    watch: Callable[[Progress], None] | None = None,
) -> Prepared:
    """Prepare a run's data and write `data.json`.

    Raises ResumeRefused when the run has taken a step and its data changed since; a part may have
    other data than the part before it, and what changed is said and written down.
    """
    prepared = prepare(recipe, codec, run.cache_dir, say, watch=watch)
    found = describe_data(prepared)
    if before.steps and run.data_json.exists():
        _refuse_changed_data(run, read_data(run), found)
    changes = _changes_since_parent(run, recipe, environment, found)
    for change in changes:
        say(change)
    found["notes"] += changes
    _write(run, found)
    return prepared


def unread_tokens(prepared: Prepared, codec: Codec) -> list[str]:
    """Say of each new token that stands in no row of the sources that it learns nothing."""
    unread = set(codec.added_ids)
    for shards in prepared.train.sources:
        for part in shards.parts:
            for ids in part.store.segment_ids():
                if not unread:
                    return []
                unread -= {number for number in unread if bool((ids == number).any())}
    return [
        f"add_tokens: {codec.decode([number])!r} stands in no row, so its embedding learns nothing"
        for number in sorted(unread)
    ]


def describe_data(prepared: Prepared) -> dict[str, Any]:
    """Give what `data.json` holds: where every row went, and what an epoch takes of each source."""
    shares = [asdict(share) for share in prepared.train.shares]
    found: dict[str, Any] = {
        "sources": [asdict(account) for account in prepared.accounts],
        "mixture": _with_shares(shares),
        "template": prepared.template,
        "notes": list(prepared.notes),
        "validation_hash": prepared.validation_hash,
        "validation_overlap": count_overlap(prepared),
    }
    if prepared.parts is not None:
        found["parts"] = _parts(prepared.parts)
    return found


def write_trained(run: RunFolder) -> None:
    """Add to `data.json` what was really trained of each source."""
    tallies = tally_sources(read_events(run).steps)
    rows: list[dict[str, Any]] = [
        {
            "name": tally.name,
            "examples": tally.examples,
            "tokens": tally.tokens,
            "target_tokens": tally.target_tokens,
        }
        for tally in tallies.values()
    ]
    _write(run, {**read_data(run), "trained": _with_shares(rows)})


def _with_shares(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    keys = ("examples", "tokens", "target_tokens")
    totals = {key: sum(row[key] for row in rows) for key in keys}
    return [
        {**row, "share_of": {k: row[k] / totals[k] if totals[k] else None for k in keys}}
        for row in rows
    ]


def _parts(account: PartsAccount) -> dict[str, Any]:
    def plain(one: Slice) -> dict[str, Any]:
        # As text: readers of JSON in other languages lose the last bits of 64.
        return {**asdict(one), "checksum": f"{one.checksum:016x}"}

    return {
        "part": account.part,
        "parts": len(account.slices),
        "by": account.by,
        "whole": plain(account.whole),
        "slices": [plain(one) for one in account.slices],
    }


def _refuse_changed_data(
    run: RunFolder, earlier: Mapping[str, Any], now: Mapping[str, Any]
) -> None:
    def hashes(found: Mapping[str, Any]) -> dict[str, str]:
        held_out = {"the held-out examples": str(found["validation_hash"])}
        return {s["path"]: s["content_hash"] for s in found["sources"]} | held_out

    then, here = hashes(earlier), hashes(now)
    changed = [
        f"{path}: {short(then.get(path, 'none'))} -> {short(here.get(path, 'none'))}"
        for path in {**then, **here}
        if then.get(path) != here.get(path)
    ]
    if changed:
        raise ResumeRefused(
            f"run {run.name} cannot go on as it began: its data changed since, "
            f"{'; '.join(changed)}; put the old files back, or `tunebook resume {run.name} --fork "
            "NEW` goes on with these as a new run"
        )


def _changes_since_parent(
    run: RunFolder, recipe: Recipe, environment: Mapping[str, object], now: Mapping[str, Any]
) -> list[str]:
    """Say how the data of a part differs from that of the part before it."""
    parent = weight_parent(environment.get("model_as_written"))
    if recipe.part in (None, 1) or parent is None:
        return []
    earlier = read_data(RunFolder(run.book, parent[0]))
    if not earlier:
        return []
    then, here = ((one.get("parts") or {}).get("by") for one in (earlier, now))
    if then != here and then is not None:
        raise DataError(
            f"the data of {parent[0]} was cut into parts by {then}, and there is now so much or so "
            f"little that it is cut by {here}, so the parts would overlap; put the old data back"
        )
    changes = describe_changes(parent[0], earlier, now)
    if earlier["validation_hash"] != now["validation_hash"]:
        changes.append(
            f"the held-out examples are not those of {parent[0]}, so the losses do not compare"
        )
    return changes


def _write(run: RunFolder, found: Mapping[str, Any]) -> None:
    text = json.dumps(found, indent=2, ensure_ascii=False, default=dict) + "\n"
    write_atomically(run.data_json, text)
