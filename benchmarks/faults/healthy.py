"""Healthy runs over learning rates, schedules, clipping, batch sizes, epochs and kinds of data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from inject import shuffled
from runs import Setup
from substrates import Material


def usual(material: Material, seed: int, steps: int = 80) -> Setup:
    """Give a set-up that a fault is put into: what is left to choose is drawn."""
    generator = np.random.default_rng([seed, 3])
    return Setup(
        material,
        seed,
        steps=steps,
        learning_rate=material.substrate.learning_rate * float(generator.uniform(0.7, 1.3)),
        schedule=str(generator.choice(["cosine", "linear", "constant"])),
        warmup_steps=int(generator.integers(4, 12)),
        max_grad_norm=float(generator.choice([0.0, 1.0, 2.0])),
    )


def _mixed(setup: Setup, generator: np.random.Generator) -> None:
    n = int(generator.integers(40, 200))
    setup.mixed_in = setup.material.other[:n]


def _noisy(setup: Setup, generator: np.random.Generator) -> None:
    """Train on wrong answers from the start, in 5 to 10 % of the rows."""
    share = generator.uniform(0.05, 0.1)
    setup.rows = [
        shuffled(row, generator) if generator.random() < share else row
        for row in setup.material.train
    ]


def _tiny_once(setup: Setup, generator: np.random.Generator) -> None:
    """Train on few rows, each once."""
    setup.batch = 4
    setup.steps = 64
    setup.rows = setup.material.train[: setup.steps * setup.batch]


def _epochs(setup: Setup, generator: np.random.Generator) -> None:
    epochs = int(generator.integers(2, 4))
    setup.rows = setup.material.train[: setup.steps * setup.batch // epochs]
    setup.learning_rate *= 0.6


def _resumed(setup: Setup, generator: np.random.Generator) -> None:
    """Go on in another process with all state kept: nothing changes but that it is logged."""
    setup.resumed_after = (int(generator.integers(setup.steps // 4, setup.steps * 3 // 4)),)


def _lengths(setup: Setup, generator: np.random.Generator) -> None:
    """Cut a random half of the rows short, from the start to the end."""
    rows = []
    for row in setup.material.train:
        n = len(row.ids)
        if generator.random() < 0.5:
            n = max(row.target.index(True) + 3, int(n * generator.uniform(0.5, 1)))
        rows.append(replace(row, ids=row.ids[:n], target=row.target[:n]))
    setup.rows = rows


def _plain(setup: Setup, generator: np.random.Generator) -> None:
    pass


_KINDS = (_plain, _mixed, _noisy, _tiny_once, _epochs, _resumed, _lengths, _plain)


def healthy(material: Material, number: int, seed: int) -> Setup:
    """Give the set-up of a healthy run; its number goes through the kinds of it."""
    setup = usual(material, seed, steps=(80, 64, 100)[number % 3])
    generator = np.random.default_rng([seed, 5])
    setup.learning_rate = material.substrate.learning_rate * float(
        np.exp(generator.uniform(np.log(0.3), np.log(2)))
    )
    setup.max_grad_norm = float(generator.choice([0.0, 0.5, 1.0]))
    setup.batch = int(generator.choice([4, 8, 8, 12, 16]))
    setup.warmup_steps = int(generator.choice([0, 5, 10, 20]))
    if setup.warmup_steps == 0:
        setup.learning_rate = min(setup.learning_rate, material.substrate.learning_rate)
    _KINDS[number % len(_KINDS)](setup, generator)
    return setup
