"""A slip in a model's name, and settings that were never written, are told at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunebook.errors import ModelError
from tunebook.models import find


def test_a_slip_in_the_name_of_the_embedded_model_is_told_without_the_hub(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(find, "snapshot_download", lambda *a, **k: asked.append(a))
    with pytest.raises(ModelError, match="only tunebook/tiny comes with tunebook; did you mean"):
        find.find_config("tunebook/tinny")
    assert asked == []


def test_an_empty_config_is_called_empty(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("\n")
    with pytest.raises(ModelError, match=r"config\.json is empty; copy or download it again"):
        find.find_config(str(tmp_path))
