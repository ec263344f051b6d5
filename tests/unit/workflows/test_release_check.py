"""When exported weights are called the trained ones."""

from __future__ import annotations

import numpy as np
import pytest

from tunebook.book.releases import Verification
from tunebook.data.batches import MicroBatch
from tunebook.errors import ReleaseRefused
from tunebook.pages.model_card import verification_words
from tunebook.workflows.release_check import Probes, Trained, compare

TRAINED = [-1.0, -2.0, -3.0]


def held_against(
    exported: list[float],
    base: list[float] | None,
    rounded: str | None = None,
    losses: tuple[float | None, float | None] = (None, None),
    n_canary: int = 0,
) -> Verification:
    row = np.arange(4)
    batch = MicroBatch(row, row, row > 0, row * 0, (4,), ("a",), ("",))
    probes = Probes((batch,), "held-out examples", n_canary)
    trained = Trained([TRAINED], None if base is None else [base], *losses)
    return compare(trained, [exported], probes, rounded=rounded)


def moved(by: float) -> list[float]:
    return [value + by for value in TRAINED]


@pytest.mark.parametrize("rounded", [None, "rounded once to bf16"])
@pytest.mark.parametrize("effect", [3e-2, 4e-4, 1e-6, 0.0])
def test_the_bare_base_is_never_taken_for_the_adapter(rounded: str | None, effect: float) -> None:
    base = moved(effect)
    with pytest.raises(ReleaseRefused) as refused:
        held_against(base, base, rounded)
    too_little = "too little to tell the exported weights from the base" in str(refused.value)
    assert too_little == (effect < 1e-4)


def test_an_adapter_that_moved_little_is_held_to_half_of_that() -> None:
    found = held_against(moved(1e-5), moved(4e-4))
    assert found.mean_allowed == pytest.approx(2e-4)
    assert found.adapter_effect == pytest.approx(4e-4)
    with pytest.raises(ReleaseRefused, match=r"0\.0003 in the mean"):
        held_against(moved(3e-4), moved(4e-4))


def test_one_token_far_off_is_refused_where_nothing_was_rounded() -> None:
    exported = [TRAINED[0] + 2e-3, *TRAINED[1:]]
    with pytest.raises(ReleaseRefused):
        held_against(exported, moved(0.5))
    assert held_against(exported, moved(0.5), "rounded once to bf16").largest_allowed is None


@pytest.mark.parametrize(
    ("n_canary", "said"),
    [
        (4, "the loss of training was not compared: not scored at this step"),
        (0, "the loss of training was not compared: the examples it was measured on are not there"),
    ],
)
def test_a_loss_that_was_not_compared_is_said(n_canary: int, said: str) -> None:
    found = held_against(TRAINED, moved(0.5), n_canary=n_canary)
    assert verification_words(found).endswith(said)
    found = held_against(TRAINED, moved(0.5), losses=(2.0, 2.0), n_canary=n_canary)
    assert "not compared" not in verification_words(found)
