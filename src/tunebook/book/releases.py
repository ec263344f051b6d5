"""What was released of a run, and how it was verified: `release.json`, the newest last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import orjson

from tunebook.book.atomic import write_atomically
from tunebook.book.codec import dump_json, to_record
from tunebook.book.inside import read_inside
from tunebook.book.places import RunFolder

Form = Literal["whole", "adapter", "merged"]


@dataclass(frozen=True, slots=True)
class Verification:
    """How far a fresh load was from the trained model, in nats of one token's log-probability.

    `adapter_effect` is the mean difference between the trained model and its base, None for a
    whole model. `loss_recorded` is what training wrote down for these weights over `loss_examples`
    held-out examples, `loss_again` what they give now; None where they could not be compared, and
    then `loss_not_compared` says why.
    """

    examples: int
    tokens: int
    rows_from: str
    largest: float
    mean: float
    largest_allowed: float | None
    mean_allowed: float
    reason: str
    adapter_effect: float | None = None
    loss_recorded: float | None = None
    loss_again: float | None = None
    loss_examples: int | None = None
    loss_not_compared: str | None = None


@dataclass(frozen=True, slots=True)
class Gguf:
    """A GGUF file beside the weights: its name, its type (f16), and the script that made it."""

    file: str
    type: str
    converter: str


@dataclass(frozen=True, slots=True)
class Release:
    """One release: which weights, in which form, where to, and the sha256 of every file.

    `base` is how others know what was trained from, `base_weights` its content hash.
    `chat_template` is the template in whose words the exported tokenizer asks, None where it has
    no such template; older releases do not say. `versions` are those of the libraries that the
    files were verified with.
    """

    run: str
    weights: str
    step: int
    form: Form
    to: str
    precision: str
    base: str
    base_weights: str | None
    files: Mapping[str, str]
    verification: Verification
    tunebook: str
    released: str
    chat_template: str | None = None
    gguf: Gguf | None = None
    versions: Mapping[str, str] = field(default_factory=dict)


def read_releases(run: RunFolder) -> list[Release]:
    """Read what was released of a run; empty when nothing was, or the file is broken."""
    try:
        found = orjson.loads(read_inside(run.book, run.release_json))["releases"]
        return [to_record(Release, each) for each in found]
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return []


def add_release(run: RunFolder, release: Release) -> None:
    """Write a release down in its run; StorageError when it cannot be."""
    whole = {"format_version": 1, "releases": [*read_releases(run), release]}
    write_atomically(run.release_json, dump_json(whole, indent=True))
