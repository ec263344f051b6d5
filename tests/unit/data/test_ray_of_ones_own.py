"""What Ray leaves open to every account of a machine is closed around it."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tunebook.data.workers import connect
from tunebook.errors import UsageError


def test_a_cluster_of_ones_own_lies_in_a_folder_that_no_other_account_enters() -> None:
    given: dict[str, Any] = {}
    connect(SimpleNamespace(init=lambda **settings: given.update(settings)), "local")
    folder = Path(given["_temp_dir"])
    assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
    assert folder.is_absolute()


@pytest.mark.parametrize("owner", [12345, 0])
def test_auto_does_not_follow_what_another_account_wrote_down(
    owner: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text("10.0.0.9:6379", encoding="utf-8")
    really = Path.lstat
    monkeypatch.setattr(
        Path,
        "lstat",
        lambda path: SimpleNamespace(st_uid=owner) if "ray" in path.name else really(path),
    )
    joined: list[str] = []
    ray = SimpleNamespace(init=lambda address, **_settings: joined.append(address))
    if owner:
        with pytest.raises(UsageError, match="was written by another account of this machine"):
            connect(ray, "auto")
    else:
        connect(ray, "auto")
    assert joined == ([] if owner else ["auto"])


def test_an_address_that_was_set_is_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    connect(SimpleNamespace(init=lambda **_settings: None), "auto")
