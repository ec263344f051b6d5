"""The file of a sweep: which settings of a run file are tried, how they are chosen, and how many.

A trial is an ordinary run that extends the run file, so whatever a run file can say can be swept.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from tunebook.errors import RunFileError
from tunebook.kinds import stopping_kind
from tunebook.recipe.section import Section
from tunebook.recipe.tree import SLUG
from tunebook.recipe.yaml_text import YamlText, parse_yaml, read_text
from tunebook.units import shorten

LEARNING_RATE = "train.learning_rate"
LISTED = ("grid", "lr-range")
"""Searches whose combinations are all known beforehand."""

_LONGEST_NAME = 80
_TRIALS = 12
_MOST_POINTS = 10_000


class Range(Section):
    """Numbers from `low` to `high`, both included: whole ones where both are written so."""

    low: float | int
    high: float | int
    log: bool = Field(False, description="Even in the logarithm, as learning rates are tried.")

    @model_validator(mode="after")
    def _order(self) -> Range:
        if not self.low < self.high:
            raise ValueError(f"`low` {self.low:g} must be below `high` {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"`log: true` needs a `low` above 0, not {self.low:g}")
        return self

    @property
    def whole(self) -> bool:
        """Tell whether only whole numbers are meant."""
        return isinstance(self.low, int) and isinstance(self.high, int)


class Budget(Section):
    """When no further trial begins; those that run are finished."""

    trials: int | None = Field(None, gt=0, description="Runs, those of further seeds included.")
    tokens: int | None = Field(None, gt=0, description="Trained tokens of all runs together.")
    hours: float | None = Field(
        None, gt=0, description="Hours of training of all runs together, as if one after another."
    )


class Sweep(Section):
    """What `tunebook sweep` reads."""

    name: str = Field(description="A slug; the trials are NAME-001, NAME-002 and so on.")
    run: str = Field(min_length=1, description="The run file, or run of the book, that is varied.")
    search: Literal["grid", "random", "tpe", "lr-range"] = Field(
        "grid",
        description="grid: every combination; random; tpe: by what came of the trials before "
        "(Bergstra et al. 2011), both with the extra `sweep`; lr-range: one run whose learning "
        "rate rises through the range of train.learning_rate (Smith 2017).",
    )
    over: dict[str, list[Any] | Range] = Field(
        min_length=1,
        description="Settings by their dotted key, each with its values or a range.",
    )
    seeds: int = Field(
        1,
        gt=0,
        le=100,
        description="Runs of each combination, with the seed of the run file and those after it.",
    )
    steps: int = Field(100, gt=2, description="Of the one run of search lr-range.")
    by: Literal["val_loss", "best_val_loss", "perplexity", "bits_per_byte", "train_loss"] = Field(
        "val_loss",
        description="The result that the best is chosen by, the lowest; bits_per_byte for models "
        "with different tokenizers, whose losses per token do not compare.",
    )
    budget: Budget = Field(Budget(), description="In trials, tokens or hours.")
    stop_on: list[Annotated[str, AfterValidator(stopping_kind)]] = Field(
        ["non_finite", "divergence", "overfitting"],
        description="Confirmed verdicts that end a trial before its last step.",
    )
    retries: int = Field(
        3, ge=0, description="How often a trial that was killed goes on from its checkpoint."
    )
    seed: int = Field(0, ge=0, description="Of the draws of random and tpe.")
    price_per_hour: float | None = Field(
        None, gt=0, description="Of one device, in any currency; the plan multiplies it."
    )

    @field_validator("name")
    @classmethod
    def _slug(cls, name: str) -> str:
        if not SLUG.match(name) or len(name) > _LONGEST_NAME:
            raise ValueError(
                "must be a slug: letters, digits, dot, dash and underscore, at most "
                f"{_LONGEST_NAME} of them"
            )
        return name

    @model_validator(mode="after")
    def _consistent(self) -> Sweep:
        if self.search == "lr-range":
            given = self.over.get(LEARNING_RATE)
            if len(self.over) > 1 or not isinstance(given, Range) or self.seeds > 1:
                raise ValueError(
                    f"`search: lr-range` is one run over one range; say over: {{{LEARNING_RATE}: "
                    "{low: 1e-6, high: 1e-1, log: true}} and no seeds"
                )
            if given.low <= 0:
                raise ValueError("a range of learning rates begins above 0")
        for key, values in self.over.items():
            first = key.partition(".")[0]
            if first in ("name", "extends", "notebook", "parts", "part", "stop_on"):
                raise ValueError(f"`over.{key}` is no setting that a sweep can vary")
            if key == "seed" and self.seeds > 1:
                raise ValueError("`seeds` already varies the seed; leave `over.seed` out")
            if isinstance(values, list) and not values:
                raise ValueError(f"`over.{key}` is empty; list the values to try")
            if isinstance(values, list) and len({json.dumps(v) for v in values}) < len(values):
                raise ValueError(f"`over.{key}` has a value twice")
            if isinstance(values, Range) and self.search == "grid":
                raise ValueError(
                    f"`over.{key}` is a range, of which a grid has no values; list them, or say "
                    "search: random"
                )
        if self.search == "grid" and self.n_points > _MOST_POINTS:
            raise ValueError(
                f"`over` has {self.n_points:,} combinations, more than the {_MOST_POINTS:,} that a "
                "grid may have; say budget: {trials: N}, or search: random"
            )
        return self

    @property
    def n_points(self) -> int:
        """How many combinations there will be at most."""
        runs = self.budget.trials
        if self.search == "lr-range":
            return 1
        if self.search == "grid":
            every = math.prod(len(v) for v in self.over.values() if isinstance(v, list))
            return every if runs is None else min(every, -(-runs // self.seeds))
        if runs is not None:
            return -(-runs // self.seeds)
        bounded = self.budget.tokens is not None or self.budget.hours is not None
        return _MOST_POINTS if bounded else _TRIALS

    @property
    def n_runs(self) -> int:
        """How many runs there will be at most."""
        every = self.n_points * self.seeds
        return every if self.budget.trials is None else min(every, self.budget.trials)

    def grid(self, limit: int | None = None) -> list[dict[str, Any]]:
        """List every combination, the last setting varying fastest; of a range test its run.

        Those that the budget has runs for, or the first `limit`: no others are made, of which there
        may be millions.
        """
        given = self.over.get(LEARNING_RATE)
        if self.search == "lr-range" and isinstance(given, Range):
            # Together, as an override of a section: each alone might not fit what is there.
            own = {"schedule": "lr_range", "max_steps": self.steps, "warmup_steps": 0}
            rates = {"min_lr": given.low, "learning_rate": given.high}
            # Nothing but the losses of its steps is looked at.
            seldom = {"evaluate": {"every": "100%", "canary": 0}, "checkpoint": {"every": "100%"}}
            return [{"train": {**own, **rates}, **seldom}]
        columns = [values for values in self.over.values() if isinstance(values, list)]
        most = self.n_points if limit is None else limit
        rows = itertools.islice(itertools.product(*columns), most)
        return [dict(zip(self.over, row, strict=True)) for row in rows]


def overrides_of(point: Mapping[str, Any]) -> list[str]:
    """Write settings as `key=value`, as the command line takes them."""
    return [f"{key}={json.dumps(value)}" for key, value in point.items()]


def load_sweep(path: Path, changed: Mapping[str, Any] | None = None) -> tuple[Sweep, str]:
    """Read a sweep file; gives it with its text. RunFileError says what is wrong with it.

    `changed` are keys of `budget` that the command line states instead.
    """
    written = read_text(path)
    text = parse_yaml(written, str(path))
    if not isinstance(text.values, dict):
        raise RunFileError(
            f"{path}: a sweep file is a mapping of keys: name, run, over and {_keys()}"
        )
    values = dict(text.values)
    if changed and isinstance(values.get("budget", {}), dict):
        values["budget"] = {**(values.get("budget") or {}), **changed}
    try:
        return Sweep.model_validate_json(json.dumps(values), strict=True), written
    except ValidationError as error:
        raise RunFileError(_complaint(error, text)) from None
    except TypeError as error:
        raise RunFileError(f"{path}: it holds a value no sweep file can hold: {error}") from None


def _keys() -> str:
    return ", ".join(key for key in Sweep.model_fields if key not in ("name", "run", "over"))


def _complaint(error: ValidationError, text: YamlText) -> str:
    every = error.errors(include_url=False)
    # Of values that are a list or a range, what is wrong with the one that was not meant says
    # nothing.
    told = [one for one in every if one["type"] not in ("list_type", "model_type")]
    found = told or every
    # An unknown key explains a missing one more often than the other way round.
    wrong = min(found, key=lambda one: one["type"] != "extra_forbidden")
    # Of a union pydantic names the member that it tried, which the file does not say.
    tried = ("Range", "list[any]", "float", "int")
    parts = [str(p) for p in wrong["loc"] if p not in tried and not str(p).startswith("function-")]
    key = ".".join(parts)
    of_range = len(parts) > 2 and parts[0] == "over"
    if wrong["type"] == "extra_forbidden":
        takes = "range takes low, high and log"
        own = takes if of_range else f"sweep file takes name, run, over, {_keys()}"
        return f"{text.at(key)}: unknown key `{shorten(key)}`; a {own}"
    if wrong["type"] == "missing":
        own = "range needs low and high" if of_range else "sweep file needs name, run and over"
        return f"{text.at(key)}: `{key}` is missing; a {own}"
    what = str(wrong["msg"]).removeprefix("Value error, ")
    # What is wrong with several keys together names them itself.
    return f"{text.at(key)}: {f'`{key}`: ' if key else ''}{what[:1].lower()}{what[1:]}"
