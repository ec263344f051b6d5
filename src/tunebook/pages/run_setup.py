"""The part of a run's page that says how it was made: machine, settings, checkpoints."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tunebook.book.atomic import folder_bytes
from tunebook.book.checkpoints import best_step, checkpoint_step, list_checkpoints
from tunebook.book.events import Events
from tunebook.book.places import RunFolder
from tunebook.book.releases import Release, read_releases
from tunebook.book.run_file import flatten
from tunebook.book.step_totals import Work
from tunebook.pages.markdown import code, escape, table
from tunebook.records import RunSummary
from tunebook.units import format_bytes, format_count, format_number, format_seconds

_HIDDEN_FACTS = ("first_batch", "peak_memory_bytes", "operations", "profiled")
_OWN_SETTINGS = re.compile(r"^(name|extends|notebook\.|data\.\d+\.(path|format)$|model$)")


def write_machine(events: Events, environment: Mapping[str, Any], work: Work) -> str:
    """Write counts, device, memory and speed; `work` is what the steps took."""
    if not work.steps and not events.facts:
        return ""
    rows = [[escape(name), escape(text)] for name, text in _machine(events, environment, work)]
    return f"## What it ran on\n\n{table(['', 'measured'], rows)}"


def _machine(
    events: Events, environment: Mapping[str, Any], work: Work
) -> Iterator[tuple[str, str]]:
    shown = {k: v for k, v in events.facts.items() if k not in _HIDDEN_FACTS}
    for key, value in flatten(shown).items():
        if value is not None and value not in ([], {}):
            yield key.replace("_", " ").replace(".", ", "), _fact(key, value)
    peak = events.fact("peak_memory_bytes") or work.peak_memory_bytes
    if isinstance(peak, int):
        yield "peak memory", format_bytes(peak)
    # An imported curve has none of the three.
    if work.seconds > 0:
        tokens, target = work.tokens, work.target_tokens
        yield "tokens trained", f"{format_count(tokens)}, of which {format_count(target)} target"
        yield "time in steps", format_seconds(work.seconds)
        rate, target_rate = (format_count(round(n / work.seconds)) for n in (tokens, target))
        yield "tokens per second", f"{rate} ({target_rate} target)"
    if events.active_seconds is not None:
        yield "time in steps and validation, all attempts", format_seconds(events.active_seconds)
    attempts = {state["attempt"] for state in events.states if state.get("state") == "running"}
    if len(attempts) > 1:
        yield "attempts", str(len(attempts))
    if environment.get("platform"):
        yield "platform", str(environment["platform"])


def _fact(key: str, value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and key.endswith("_flops"):
        return f"{format_count(round(value / 1e9))} GFLOP/s"
    if isinstance(value, float) and key.endswith("bytes_per_second"):
        return f"{format_bytes(round(value))}/s"
    if isinstance(value, int):
        return format_bytes(value) if key.endswith("_bytes") else format_count(value)
    if isinstance(value, float):
        return format_seconds(value) if key.endswith("seconds") else format_number(value)
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    return str(value)


def write_settings(summary: RunSummary, parent: RunSummary | None) -> str:
    """Write the settings that differ from the defaults or from the run this one extends."""
    defaults = _defaults(str(summary.config.get("stage") or "sft"))
    rows = []
    for key, value in sorted(summary.config.items()):
        if _OWN_SETTINGS.match(key):
            continue
        default = defaults.get(_general(key))
        inherited = parent.config.get(key) if parent is not None else default
        if value == default and (parent is None or value == inherited):
            continue
        row = [escape(key), _setting(value), _setting(default)]
        if parent is not None:
            changed = value != inherited
            row = [row[0], f"**{row[1]}**" if changed else row[1], row[2], _setting(inherited)]
        rows.append(row)
    if not rows:
        return "## Settings\n\nEvery setting has its default.\n"
    header = ["setting", "this run", "default", *([parent.name] if parent else [])]
    return (
        f"## Settings\n\nWhat differs from the defaults{_also(parent)}; every value is in "
        f"`resolved.yaml`.\n\n{table(header, rows)}"
    )


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting with where it comes from: `this file`, `default`, a run, or a run file.

    `before` is its value in the run this one extends, where the two differ. What every run says
    of itself, such as its name, is its own.
    """

    key: str
    value: str
    default: str
    origin: str
    before: str | None
    is_default: bool
    is_own: bool


def list_settings(
    summary: RunSummary, inherited: Mapping[str, Any], parent: RunSummary | None
) -> list[Setting]:
    """List every setting of a run; of a run that has not started, only those of its file."""
    defaults = _defaults(str(summary.config.get("stage") or "sft"))
    found = []
    for key, value in summary.config.items():
        default = defaults.get(_general(key))
        before = parent.config.get(key) if parent is not None else value
        found.append(
            Setting(
                key,
                _plain(value),
                _plain(default),
                str(inherited.get(key) or ("this file" if value != default else "default")),
                _plain(before) if before != value and not _OWN_SETTINGS.match(key) else None,
                value == default,
                bool(_OWN_SETTINGS.match(key)),
            )
        )
    return found


def _plain(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "–"
    if isinstance(value, bool):
        return "true" if value else "false"
    return "–" if value is None or value == {} else str(value)


def _also(parent: RunSummary | None) -> str:
    return f" or from {parent.name} (bold)" if parent is not None else ""


def _general(key: str) -> str:
    return re.sub(r"^data\.\d+\.", "data.0.", key)


@functools.cache
def _defaults(stage: str) -> dict[str, Any]:
    # pydantic is only imported here: the page is the one reader that shows defaults.
    from pydantic import ValidationError

    from tunebook.recipe.tree import Recipe

    own: dict[str, Any] = {"name": "x", "model": "x", "data": [{"path": "x"}], "stage": stage}
    try:
        tree = Recipe.model_validate(own).model_dump(mode="json")
    except ValidationError:
        return {}
    return flatten(tree)


def _setting(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return code(value)
    if isinstance(value, (list, tuple)):
        return code(", ".join(str(item) for item in value)) if value else "–"
    return escape(str(value))


def write_checkpoints(run: RunFolder, summary: RunSummary) -> str:
    """Write which weights are on disk, with their sizes."""
    best = best_step(run)
    rows = []
    for path in list_checkpoints(run):
        word = "best, " if checkpoint_step(path) == best else ""
        rows.append([code(f"checkpoints/{path.name}"), f"{word}resumable", _size(path)])
    if run.final.is_dir():
        rows.append([code("final"), "the trained model", _size(run.final)])
    if not rows:
        return ""
    lowest = ""
    if summary.best_step is not None:
        lowest = (
            f"\nLowest val_loss {format_number(summary.best_val_loss)} at step "
            f"{summary.best_step}.\n"
        )
    return f"## Weights\n\n{table(['folder', '', 'size'], rows, right=['size'])}{lowest}"


def write_releases(run: RunFolder) -> str:
    """Write what was released of the run, and how far a fresh load was from the trained model."""
    rows = [
        [
            code(r.to),
            f"{r.form}, {r.precision}",
            f"{r.weights}, step {r.step}",
            verified_in_short(r),
        ]
        for r in read_releases(run)
    ]
    head = ["folder", "form", "weights", "verified"]
    return f"## Released\n\n{table(head, rows)}" if rows else ""


def verified_in_short(release: Release) -> str:
    """Say how far a release was from the trained model."""
    found = release.verification
    return f"{format_count(found.tokens)} tokens, mean difference {found.mean:.1e} nats"


def _size(path: Any) -> str:
    return format_bytes(folder_bytes(path))
