"""The file of a sweep: what it may say, and what is said of a mistake."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tunebook.errors import RunFileError
from tunebook.recipe.sweep import Sweep, load_sweep, overrides_of

GRID = {"lora.rank": [4, 8], "lora.alpha": [8, 16], "train.learning_rate": [1e-4, 3e-4, 1e-3]}
RATES = {"train.learning_rate": {"low": 1e-5, "high": 1e-2, "log": True}}


def given(tmp_path: Path, **changes: Any) -> Path:
    values = {"name": "s", "run": "chat.yaml", "over": GRID, **changes}
    path = tmp_path / "sweep.yaml"
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


def load(tmp_path: Path, **changes: Any) -> Sweep:
    return load_sweep(given(tmp_path, **changes))[0]


def test_a_grid_is_every_combination_once_with_the_last_setting_fastest(tmp_path: Path) -> None:
    sweep = load(tmp_path)
    points = sweep.grid()
    assert len(points) == 12 == sweep.n_points == sweep.n_runs
    assert len({json.dumps(point) for point in points}) == 12
    assert points[0] == {"lora.rank": 4, "lora.alpha": 8, "train.learning_rate": 1e-4}
    assert points[1] == {**points[0], "train.learning_rate": 3e-4}
    assert overrides_of(points[0]) == [
        "lora.rank=4",
        "lora.alpha=8",
        "train.learning_rate=0.0001",
    ]


@pytest.mark.parametrize(
    ("changes", "points", "runs"),
    [
        ({"seeds": 3}, 12, 36),
        ({"budget": {"trials": 5}}, 5, 5),
        ({"budget": {"trials": 5}, "seeds": 2}, 3, 5),
        ({"search": "random", "over": RATES}, 12, 12),
        ({"search": "tpe", "over": RATES, "budget": {"trials": 40}, "seeds": 2}, 20, 40),
        ({"search": "lr-range", "over": RATES}, 1, 1),
    ],
)
def test_trials_count_runs_and_a_budget_bounds_them(
    tmp_path: Path, changes: dict[str, Any], points: int, runs: int
) -> None:
    sweep = load(tmp_path, **changes)
    assert (sweep.n_points, sweep.n_runs) == (points, runs)


def test_a_budget_of_the_command_line_stands_above_the_files(tmp_path: Path) -> None:
    path = given(tmp_path, budget={"trials": 9, "hours": 2})
    sweep, written = load_sweep(path, {"trials": 4})
    assert (sweep.budget.trials, sweep.budget.hours) == (4, 2)
    assert written == path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ovr": {}}, "unknown key `ovr`"),
        ({"over": None}, "`over`"),
        ({"over": {}}, "over"),
        ({"over": {"lora.rank": []}}, "`over.lora.rank` is empty"),
        ({"over": {"lora.rank": [4, 4]}}, "`over.lora.rank` has a value twice"),
        ({"over": {"name": ["a", "b"]}}, "`over.name` is no setting that a sweep can vary"),
        ({"over": RATES}, "is a range, of which a grid has no values"),
        ({"over": {"seed": [1, 2]}, "seeds": 2}, "leave `over.seed` out"),
        (
            {"search": "random", "over": {"lora.rank": {"low": 8, "high": 4}}},
            "`low` 8 must be below `high` 4",
        ),
        (
            {"search": "random", "over": {"lora.rank": {"low": 0, "high": 4, "log": True}}},
            "`log: true` needs a `low` above 0",
        ),
        ({"search": "lr-range"}, "`search: lr-range` is one run over one range"),
        ({"search": "bayes"}, "`search`"),
        ({"name": "a b"}, "must be a slug"),
        ({"budget": {"trials": 0}}, "`budget.trials`"),
        ({"stop_on": ["overfiting"]}, "did you mean `overfitting`?"),
    ],
)
def test_a_mistake_is_one_sentence_that_names_the_key(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(RunFileError) as caught:
        load(tmp_path, **changes)
    sentence = str(caught.value)
    assert said in sentence
    assert "sweep.yaml" in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ({"low": 1, "high": "x"}, "`over.train.learning_rate.high`: input should be a valid"),
        ({"low": 1}, "`over.train.learning_rate.high` is missing; a range needs low and high"),
        ({"low": 1, "high": 2, "lg": 1}, "`over.train.learning_rate.lg`; a range takes low"),
        ("x", "`over.train.learning_rate`"),
    ],
)
def test_a_mistake_in_a_range_is_named_as_the_file_writes_it(
    tmp_path: Path, stated: Any, said: str
) -> None:
    with pytest.raises(RunFileError) as caught:
        load(tmp_path, search="random", over={"train.learning_rate": stated})
    assert said in str(caught.value)
    assert "function" not in str(caught.value)


def test_the_first_of_a_hundred_million_combinations_cost_nothing_more(tmp_path: Path) -> None:
    over = {f"lora.{key}": list(range(40)) for key in "abcde"}
    sweep = load(tmp_path, over=over, budget={"trials": 4})
    first = sweep.grid()
    assert sweep.grid(2) == first[:2]
    assert [point["lora.e"] for point in first] == [0, 1, 2, 3]
    with pytest.raises(RunFileError, match="102,400,000 combinations, more than the 10,000"):
        load(tmp_path, over=over)


@pytest.mark.parametrize("text", ["", "- a\n", "over: [1\n", "name: s\nname: t\n"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RunFileError, match=r"sweep\.yaml"):
        load_sweep(path)


def test_the_grid_of_the_documentation_is_a_sweep_of_under_20_lines(tmp_path: Path) -> None:
    page = Path(__file__).parents[3] / "docs" / "sweeps.md"
    blocks = re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    blocks = [text for text in blocks if "\nsearch:" in text]
    assert len(blocks) == 3
    found = []
    for text in blocks:
        path = tmp_path / "sweep.yaml"
        path.write_text(text, encoding="utf-8")
        found.append(load_sweep(path)[0])
    grid = found[0]
    (rates,) = [one for one in found if one.search == "lr-range"]
    assert len(blocks[0].splitlines()) < 20
    assert (grid.n_points, grid.n_runs, grid.seeds) == (27, 54, 2)
    assert rates.grid()[0]["train"]["schedule"] == "lr_range"
    named = set(re.findall(r"^\| `(\w+)` \|", page.read_text(encoding="utf-8"), re.MULTILINE))
    assert named == set(Sweep.model_fields)
