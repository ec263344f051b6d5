"""Every verdict that tunebook can give about a run, in snake_case; checks of a plan are kebab-case.

`watch` finds them, predictions and `stop_on` name them, docs/verdicts.md is made from this list.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

Level = Literal["fault", "notice", "fine"]


@dataclass(frozen=True, slots=True)
class Kind:
    """What a verdict means, what it rests on, and what a log must hold for it.

    A `fault` of a run without one is a false alarm; a `notice` is worth knowing and no fault.
    `families` are words that a prediction may use for several kinds, such as `spike`.
    """

    level: Level
    meaning: str
    ground: str
    needs: str = "loss"
    families: tuple[str, ...] = ()


_SPIKE = ("spike",)
_UNSTABLE = ("spike", "instability")

KINDS: Mapping[str, Kind] = {
    # Facts of the log decide these.
    "non_finite": Kind("fault", "a loss or gradient is NaN or infinite", "a fact of the log"),
    "skipped_batches": Kind(
        "fault", "a step did not train its rows", "arithmetic: rows given against rows trained"
    ),
    "weights_frozen_by_precision": Kind(
        "fault",
        "updates round to nothing in the precision of the weights",
        "a fact: under 1 % of the weights changed in the first 5 steps, or under 5 % later, with a "
        "gradient",
        "changed_fraction",
    ),
    "no_learning": Kind(
        "fault",
        "weights that should learn do not move",
        "a fact: nothing is trained, or the same quarter of the weights or more never changes",
        "changed_fraction",
    ),
    "lr_too_low": Kind(
        "fault",
        "updates are too small for the loss to fall in this run",
        "updates below 1e-6 of the weights; or a gain below 5 % and all updates together below "
        "1 % of them (15 % of an adapter)",
        "update_ratio or learning_rate",
    ),
    "padding_or_length": Kind(
        "fault",
        "padding is trained on, or rows change their length at once",
        "an invariant: no target on padding; else log target tokens per example over 6 steps, 8 "
        "standard errors and a quarter off those before",
        "lengths, target tokens",
        _SPIKE,
    ),
    "repeated_rows": Kind(
        "fault",
        "rows are trained again before the others had their turn",
        "arithmetic: 8 rows or more follow each other as they did before in the epoch",
        "example ids",
    ),
    "data_boundary": Kind(
        "fault",
        "the mixture of sources changes in the middle of the run",
        "source tags: a fifth of the tokens goes over to other sources for good, 5 standard errors "
        "of their share; what the loss does is told beside it",
        "sources",
        _SPIKE,
    ),
    "lr_jump": Kind(
        "fault",
        "the learning rate at least doubles within a few steps, outside of its warm-up",
        "a fact: it doubles within 64 steps; how much it hurt is told beside it",
        "learning_rate",
        _UNSTABLE,
    ),
    "clip_switch": Kind(
        "fault",
        "gradient clipping begins or ends in the middle of the run",
        "arithmetic: under one limit every clipped norm is above every one that was not",
        "grad_norm, clipped",
        _UNSTABLE,
    ),
    "gradient_scale": Kind(
        "fault",
        "gradients change their size at once, at the same loss and the same weights",
        "log gradient norm shifts by a factor of 1.6 at once, 8 standard errors over 12 steps",
        "grad_norm",
    ),
    "resumed_state": Kind(
        "fault",
        "a run that was resumed does not go on as it was: state of the optimizer is missing",
        "the first update per learning rate is 1.3 times off and 6 robust SDs from those before",
        "update_ratio, where it was resumed",
        _UNSTABLE,
    ),
    "random_base": Kind(
        "fault",
        "the weights it started from know nothing: their loss is that of guessing",
        "the loss before step 1 is at least 0.95 of the log of the vocabulary's size, and 0.9 of "
        "it in the first batch",
        "loss of the base",
    ),
    "validation_overlap": Kind(
        "fault", "held-out rows are trained on, too", "a count of equal rows", "hashes of rows"
    ),
    "no_validation": Kind(
        "notice", "nothing was held out, so overfitting cannot be judged", "a fact of the log"
    ),
    # Statistics over the series of a run.
    "bad_example": Kind(
        "fault",
        "one example's loss is far beyond those it was trained with",
        "9 robust SDs (8 where it is worse than guessing) from examples of its source and length, "
        "1.45 times as far as any other, beyond their tail: less than 0.01 expected per run",
        "losses per example",
        _SPIKE,
    ),
    "bad_batch": Kind(
        "fault",
        "one batch's loss is far beyond its neighbours' and the weights recover",
        "surprise, the loss of the batch less the canary before it, is 4 robust SDs off and its "
        "examples together 6 (6 without examples), for 4 steps at most",
        "loss; canary sharpens it",
        _SPIKE,
    ),
    "corrupted_targets": Kind(
        "fault",
        "from a step on, batches are much harder than held-out text at the same weights",
        "surprise rises by 6 standard errors over 10 steps and stays up, with no change of sources "
        "or lengths",
        "loss; canary decides",
        _SPIKE,
    ),
    "peak_lr": Kind(
        "fault",
        "the weights are hurt near the end of the warm-up: the peak is too high",
        "as lr_too_high, from the last four fifths of the warm-up to a tenth of the run behind it",
        "canary or loss, learning_rate",
        _UNSTABLE,
    ),
    "lr_too_high": Kind(
        "fault",
        "the weights are hurt by updates too large, not near the end of a warm-up",
        "canary above its minimum by 0.15 nats and 6 % for 5 steps and training above what it was; "
        "or updates over 0.7 % of the weights (10 % of an adapter) for 10 steps",
        "canary or loss, learning_rate",
        ("instability",),
    ),
    "grad_norm_warning": Kind(
        "notice",
        "gradient norms grow far beyond what they were, before the loss moves",
        "robust z of log gradient norm above 10 in 3 of 8 steps",
        "grad_norm",
    ),
    "spike_isolated": Kind(
        "fault",
        "the loss spiked and recovered, and the log cannot decide why",
        "as bad_batch or lr_too_high, where the log lacks what decides; replay decides",
        "loss",
        _SPIKE,
    ),
    "divergence": Kind(
        "fault",
        "the loss leaves where it was and does not come back",
        "running medians of 9 losses stay above the start, or three times their least, to the end; "
        "of a table's row, a loss over twice the median of its siblings",
        families=("instability",),
    ),
    "rising_loss": Kind(
        "fault",
        "the training loss rises at the end of the run",
        "block bootstrap of the slope over the last fifth, p below 0.001",
    ),
    "overfitting": Kind(
        "fault",
        "the held-out loss rises while the training loss falls",
        "one-sided paired test over documents against the best of k validations before, p below "
        "0.005/k and over 1 %, confirmed at the next; false in about 1 % of healthy runs",
        "validations; per document for a test",
    ),
    "stagnation": Kind(
        "notice",
        "the loss stopped falling well before the end",
        "gain over the last quarter below 1 % of all at 95 %, learning rate still high",
    ),
    "converged": Kind(
        "notice",
        "the loss is as low as this run makes it",
        "gain over the last quarter below 1 % of all at 95 %, at the end, learning rate decayed",
    ),
    "loss_scale_mismatch": Kind(
        "fault",
        "training and validation losses cannot be of the same thing",
        "their ratio at the same weights is outside of 2/3 to 1.5 throughout the first epoch",
        "loss, validations",
    ),
    "worse_than_base": Kind(
        "fault",
        "the model scores below the one it was made from",
        "one-sided paired test over held-out documents of the last validation, p below 0.001 and "
        "over 1 %",
        "validation of the base",
    ),
    "memorised": Kind(
        "fault",
        "the training loss is next to nothing: rows are known by heart",
        "the last 20 training losses are below 0.05 nats and a fifth of the held-out loss",
        "loss, validations",
    ),
    # What evaluations found.
    "forgetting": Kind(
        "fault",
        "general text became less likely",
        "retention: surely less than 90 % is kept (95 % interval), paired loss different",
        "probe",
    ),
    "narrowed": Kind(
        "fault",
        "it answers everything with its own subject",
        "terms of the subject elsewhere, one-sided p below 0.01 and half as many as within",
        "probe",
    ),
    "short_responses": Kind(
        "fault",
        "answers became much shorter",
        "paired lengths: different, and at most half of those in the data (or the base's)",
        "probe",
    ),
    # Between runs.
    "noise_only": Kind(
        "notice",
        "two runs, or a run and its base, are not shown to differ",
        "a paired 95 % interval over items that holds 0 (5 % of equal pairs are called different), "
        "and a gap that runs of other seeds could give, where there are some; averages by stated "
        "assumptions",
        "two runs",
    ),
    "confounded": Kind(
        "notice",
        "two settings or more changed, so that none is shown to be the cause",
        "a fact: the settings; what goes together, as rank and alpha at one scale, counts once",
        "two runs",
    ),
    "cannot_explain": Kind(
        "notice",
        "arithmetic excludes the suspected setting",
        "arithmetic: decay of 1 - prod(1 - lr x decay) below 5 %, clipping that was never active, "
        "as many steps of warm-up, the same value in both",
        "settings of two runs",
    ),
    "no_fault_found": Kind(
        "fine", "nothing of the above, with what could not be looked for", "all detectors"
    ),
}

FAMILIES: Mapping[str, tuple[str, ...]] = {
    word: tuple(name for name, kind in KINDS.items() if word in kind.families)
    for word in ("spike", "instability")
}
"""Words for several kinds: `no spike` in a prediction is no kind of this family."""

FAULTS = frozenset(name for name, kind in KINDS.items() if kind.level == "fault")

STOPPING = FAULTS - {name for name, kind in KINDS.items() if kind.needs in ("probe", "answers")}
"""Faults that may end a run: the log shows them while it trains."""


def kinds_of(word: str) -> tuple[str, ...]:
    """Give the kinds that a kind or a family names; ValueError with the nearest name for others."""
    if word in FAMILIES:
        return FAMILIES[word]
    return (_known(word, (*FAMILIES, *KINDS)),)


def stopping_kind(word: str) -> str:
    """Give a kind that a run may stop on; ValueError with the nearest one for any other."""
    return _known(word, sorted(STOPPING))


def _known(word: str, among: Collection[str]) -> str:
    """Give a word that is one of some names; ValueError with the nearest one for any other."""
    if word in among:
        return word
    near = difflib.get_close_matches(word, among, n=1)
    hint = f"did you mean `{near[0]}`?" if near else f"there is {', '.join(among)}"
    raise ValueError(f"there is no such verdict as `{word}` here; {hint}")
