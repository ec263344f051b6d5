"""A precision that this processor emulates is warned of, one that would be faster is named."""

from __future__ import annotations

import pytest

from tunebook.plan import ceiling
from tunebook.plan.checks import slow_precision
from tunebook.plan.checks.slow_precision import check, faster_precision
from tunebook.plan.devices import Device
from tunebook.plan.subject import Subject
from tunebook.recipe.tree import Recipe

RECIPE = Recipe(name="a", model="tunebook/tiny", data=[{"path": "rows.jsonl"}])


def subject(precision: str, *, seconds: float = 100.0, present: bool = True) -> Subject:
    device = Device("CPU", "cpu", None, None, True, False, {}, present)
    return Subject(RECIPE, {}, device, precision, seconds={"training": seconds})


def products(patch: pytest.MonkeyPatch, **gigaflops: float) -> None:
    rates = {name: value * 1e9 for name, value in gigaflops.items()}
    patch.setattr(slow_precision, "matrix_product_flops", lambda name, seconds: rates[name])


def test_an_emulated_precision_is_named_with_both_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    products(monkeypatch, fp32=80.0, bf16=1.0)
    (found,) = check(subject("bf16"))
    assert (found.name, found.level) == ("slow-precision", "warn")
    assert "at 1 GFLOP/s in it and at 80 GFLOP/s in fp32, 80 times as fast" in found.message
    assert "precision: fp32" in found.way_out
    assert not list(check(subject("bf16", present=False)))
    assert not list(check(subject("fp32")))


def test_bf16_that_would_be_faster_is_said_of_long_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    products(monkeypatch, fp32=205.0, bf16=445.0)
    assert not list(check(subject("bf16")))
    (words,) = faster_precision(subject("fp32"))
    assert words.startswith("precision: bf16 may be faster")
    assert faster_precision(subject("fp32", seconds=10.0)) == ()
    products(monkeypatch, fp32=205.0, bf16=210.0)
    assert faster_precision(subject("fp32")) == ()


def test_a_product_is_measured_in_the_time_that_there_is() -> None:
    before = ceiling.torch.get_rng_state()
    assert 1e7 < ceiling.matrix_product_flops("fp32", seconds=0.02) < 1e14
    assert ceiling.copy_bytes_per_second(ceiling.torch.device("cpu")) > 1e7
    assert before.equal(ceiling.torch.get_rng_state())
