"""random-base: a base whose weights never came from its files has learned nothing to build on.

A model with random weights gives all V tokens of its vocabulary about the same probability: its
loss is ln V plus half the variance of its logits, and all tokens are about as unlikely, spread by
that same deviation (0.02 * sqrt(width) for the usual initialisation: 0.6 at a width of 768, 1.3 at
4,096). A trained model far from what it knows can reach such a loss, too, above all with a small
vocabulary, where ln V is low; but it is sure of some tokens and wrong on others, so its tokens'
losses lie several nats apart.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from tunebook.plan.probe import Probe
from tunebook.plan.subject import Subject
from tunebook.records import Finding

# Trained models are at 0.2 to 0.5 of ln V on text of their kind, and at 0.7 on any text of ours.
_LOSS_SHARE = 0.9
# What random weights spread at a width of 15,000; trained models lie at 2.5 to 4.
_RANDOM_SPREAD = 2.5
# The mean of fewer is anywhere, above all in answers of a few digits.
_LEAST_TARGETS = 50
_SHOWN = 5


def check(subject: Subject) -> Iterator[Finding]:
    """Compare the loss of real rows under the weights with that of a guess."""
    probe = subject.probe
    vocabulary = subject.config.get("vocab_size")
    if probe is None or not isinstance(vocabulary, int):
        return
    if probe.unexpected_weights:
        yield _unexpected(subject, probe)
    if probe.target_tokens < _LEAST_TARGETS:
        return
    guess = math.log(vocabulary)
    spread = probe.loss_spread
    if probe.loss < _LOSS_SHARE * guess or (spread is not None and spread > _RANDOM_SPREAD):
        return
    yield Finding(
        "random-base",
        "refuse",
        f"the loss before step 1 is {probe.loss:.2f}, and guessing among the {vocabulary:,} tokens "
        f"of the vocabulary gives {guess:.2f}: the weights of {subject.recipe.model} are as good "
        "as random",
        {
            "loss": probe.loss,
            "loss_of_guessing": guess,
            "loss_spread": spread,
            "vocabulary": vocabulary,
            "target_tokens": probe.target_tokens,
        },
        "name a model with trained weights; to train one from random weights, accept random-base",
    )


def _unexpected(subject: Subject, probe: Probe) -> Finding:
    names = probe.unexpected_weights
    return Finding(
        "random-base",
        "warn",
        f"{len(names)} weights in the files of {subject.recipe.model} are not in the model that "
        f"was built of its config.json, the first of them {names[0]}",
        {"unexpected": list(names[:_SHOWN]), "count": len(names)},
        "hold config.json against the weights: names that differ mean another architecture",
    )
