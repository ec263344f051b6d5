from __future__ import annotations

from dataclasses import replace

import pytest

from tunebook.pages.sweep import Sweep, draw_sweep, importance_words
from tunebook.records import RunSummary, State


def run_of(name: str, val_loss: float | None, **config: object) -> RunSummary:
    settings = {key.replace("__", "."): value for key, value in config.items()}
    return RunSummary(
        name, "finished", "m", "sft", "lora", val_loss=val_loss, config=settings, examples_hash="h"
    )


def sweep_of(*rows: tuple[float | None, dict[str, object]]) -> Sweep:
    return draw_sweep([run_of(f"r{i}", loss, **c) for i, (loss, c) in enumerate(rows)], "val_loss")


def test_only_settings_that_differ_have_an_axis_and_the_result_is_the_last() -> None:
    found = sweep_of((2.0, {"rank": 4, "same": 1}), (1.0, {"rank": 8, "same": 1}))
    assert [axis.key for axis in found.axes] == ["rank", "val_loss"]


def test_numbers_that_spread_widely_lie_on_a_logarithmic_axis_and_words_on_their_own() -> None:
    found = sweep_of(
        *((2.0 - i / 10, {"lr": 10.0**-i, "drop": i * 3 % 4, "kind": "ab"[i % 2], "seed": i})
          for i in range(4))
    )  # fmt: skip
    scales = {axis.key: axis.scale for axis in found.axes}
    assert scales == {
        "lr": "log", "drop": "linear", "kind": "words", "seed": "words", "val_loss": "linear",
    }  # fmt: skip
    lr = next(axis for axis in found.axes if axis.key == "lr")
    gaps = [a.y - b.y for a, b in zip(lr.ticks, lr.ticks[1:], strict=False)]
    assert gaps == pytest.approx([gaps[0]] * 3)


def test_settings_that_always_changed_together_are_told() -> None:
    found = sweep_of(
        *((2.0 + i / 10, {"lora__rank": 4 * i, "lora__alpha": 8 * i, "other": i % 2})
          for i in range(1, 5))
    )  # fmt: skip
    assert [set(group) for group in found.together] == [{"lora.rank", "lora.alpha"}]
    assert len(found.axes) == 3  # one of the two, the other setting, the result


def test_runs_without_a_finite_result_are_named_and_not_drawn() -> None:
    found = sweep_of((1.0, {"a": 1}), (None, {"a": 2}), (float("nan"), {"a": 3}), (2.0, {"a": 4}))
    assert [course.run.name for course in found.courses] == ["r3", "r0"]
    assert [run.name for run in found.undrawn] == ["r1", "r2"]


def test_the_best_fifth_is_of_grade_0_and_drawn_last() -> None:
    found = sweep_of(*((float(i), {"a": i}) for i in range(10)))
    assert [course.grade for course in found.courses] == [4, 4, 3, 3, 2, 2, 1, 1, 0, 0]
    assert found.courses[-1].result == 0


def test_a_valley_is_no_trend_and_is_told_as_a_bend() -> None:
    found = sweep_of(*((abs(i - 7.5) + i % 3 / 10, {"lr": float(i)}) for i in range(16)))
    assert importance_words(found, "lr").startswith("no trend, but a bend")
    trend = sweep_of(*((i + i % 3, {"lr": float(i)}) for i in range(16)))
    assert importance_words(trend, "lr") == "a higher lr goes with a higher val_loss"
    few = sweep_of(*((float(i), {"lr": float(i)}) for i in range(5)))
    assert importance_words(few, "lr") == "cannot tell: 5 runs, and it takes 8"


def test_losses_on_other_examples_are_said_not_to_compare() -> None:
    runs = [run_of("a", 1.0, x=1), RunSummary("b", "finished", "m", "sft", "lora", val_loss=2.0,
            examples_hash="other", config={"x": 2})]  # fmt: skip
    assert "does not compare" in draw_sweep(runs, "val_loss").notes[0]


def test_files_of_one_name_in_two_folders_are_two_values_and_a_link_keeps_the_whole_one() -> None:
    rows = [(1.0 + i, {"data__0__path": f"/{'ab'[i % 2]}/train.jsonl"}) for i in range(8)]
    found = sweep_of(*rows)
    assert found.varying == ("data.0.path",)
    assert [tick.text for tick in found.axes[0].ticks] == ["/b/train.jsonl", "/a/train.jsonl"]
    assert found.axes[0].ticks[1].filter == "data.0.path=/a/train.jsonl"
    other = sweep_of((1.0, {"data__0__path": "/a/one.txt"}), (2.0, {"data__0__path": "/a/two.txt"}))
    assert {tick.text for tick in other.axes[0].ticks} == {"one.txt", "two.txt"}
    assert {course.texts for course in other.courses} == {("one.txt",), ("two.txt",)}


@pytest.mark.parametrize("state", ["running", "failed", "paused"])
def test_a_run_that_did_not_come_to_its_end_is_not_ranked(state: State) -> None:
    runs = [
        run_of("a", 2.0, x=1),
        run_of("b", 3.0, x=2),
        replace(run_of("c", 1.0, x=3), state=state),
    ]
    found = draw_sweep(runs, "val_loss")
    assert [course.run.name for course in found.courses] == ["b", "a"]
    assert [run.name for run in found.undrawn] == ["c"]
