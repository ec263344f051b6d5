"""A part of a model has no weights but those of its folder: timm would open others as pickle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tunebook.errors import ModelError
from tunebook.models.find import find_config


@pytest.mark.parametrize(
    "part",
    [
        {"architecture": "mobilenetv5_300m_enc", "model_args": {"checkpoint_path": "m/evil.pth"}},
        {"architecture": "resnet18", "model_args": {"pretrained_cfg": {"file": "m/evil.pth"}}},
        {"architecture": "hf-hub:evil/model"},
        {"backbone": "local-dir:m/evil"},
    ],
)
def test_weights_that_timm_would_open_are_refused(tmp_path: Path, part: dict[str, Any]) -> None:
    config = {"model_type": "gemma3n", "vision_config": {"model_type": "timm_wrapper", **part}}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ModelError, match=r"in config\.json names weights of a part of it"):
        find_config(str(tmp_path))


def test_a_part_that_names_its_architecture_is_taken(tmp_path: Path) -> None:
    part = {"model_type": "gemma3n_vision", "architecture": "mobilenetv5_300m_enc"}
    config = {"model_type": "gemma3n", "vision_config": {**part, "model_args": None}}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert find_config(str(tmp_path)) == tmp_path
