"""What a fresh process is asked of a release, done in this one."""

from __future__ import annotations

import contextlib
import io
import sys
from types import SimpleNamespace
from typing import Any

import pytest


def answer_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do in this process what a fresh one is asked: importing torch takes longer than the work."""
    from tunebook.models import export, fresh

    def run(_command: object, **given: Any) -> SimpleNamespace:
        said = io.StringIO()
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said):
            patch.setattr(sys, "stdin", io.StringIO(given["input"]))
            fresh.main()
        return SimpleNamespace(returncode=0, stdout=said.getvalue(), stderr="")

    monkeypatch.setattr(export, "subprocess", SimpleNamespace(run=run))
