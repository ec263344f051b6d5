"""What is released names no code: others, such as converters, look for it and run it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tunebook.models.export import copy_whole
from tunebook.models.find import EMBEDDED_FOLDER


@pytest.mark.parametrize("name", ["tokenizer_config.json", "config.json"])
def test_code_that_was_not_used_is_not_named_in_what_is_released(tmp_path: Path, name: str) -> None:
    source, target = tmp_path / "final", tmp_path / "release"
    shutil.copytree(EMBEDDED_FOLDER, source)
    target.mkdir()
    stated = json.loads((source / name).read_text(encoding="utf-8"))
    # A folder `evil` beside whoever opens it, which transformers would take for a repository.
    named = {**stated, "auto_map": {"AutoTokenizer": ["evil--code.Evil", None]}}
    (source / name).write_text(json.dumps(named), encoding="utf-8")
    copy_whole(source, target, os.link)
    assert json.loads((target / name).read_text(encoding="utf-8")) == stated
    assert json.loads((source / name).read_text(encoding="utf-8")) == named
