from __future__ import annotations

import re
from pathlib import Path

import pytest

from tunebook.errors import RunFileError
from tunebook.recipe.finding_names import FINDING_NAMES
from tunebook.recipe.load import recipe_from_mapping

SOURCE = Path(__file__).resolve().parents[3] / "src" / "tunebook"
RECIPE = {"name": "a", "model": "tunebook/tiny", "data": [{"path": "a.txt"}]}


def test_every_finding_can_be_accepted_by_its_name() -> None:
    from tunebook.plan.checks import CHECKS

    assert set(CHECKS) <= set(FINDING_NAMES)
    places = [*(SOURCE / "plan" / "checks").glob("*.py"), *(SOURCE / "data").rglob("*.py")]
    made = re.compile(r'(?:Finding|DefectError)\(\s*"([a-z]+(?:-[a-z]+)+)"')
    said = {name for path in places for name in made.findall(path.read_text(encoding="utf-8"))}
    assert len(said) > 10
    assert said <= set(FINDING_NAMES)


def test_every_name_stands_on_the_page_that_a_refusal_points_to() -> None:
    page = (SOURCE.parents[1] / "docs" / "plan.md").read_text(encoding="utf-8")
    assert [name for name in FINDING_NAMES if f"`{name}`" not in page] == []


def test_a_name_that_nothing_has_is_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(RunFileError, match="did you mean padding-waste"):
        recipe_from_mapping({**RECIPE, "accept": ["padding-wast"]}, "it", tmp_path)
