"""Hostile bytes and slow clients at the real server: the short form of web/hostile.py."""

from __future__ import annotations

import re

import pytest
from test_web_at_work import run_script


@pytest.mark.slow
def test_no_hostile_request_is_more_than_a_sentence() -> None:
    said = run_script(
        "hostile.py", "--count", "300", "--slow-seconds", "2", "--slow-each", "4", "--seed", "7"
    )
    count = {what: int(n) for n, what in re.findall(r"^ *(\d+)  (.+)$", said, re.MULTILINE)}
    assert count["requests"] == 300
    assert count["wrong"] == 0
    assert count["answered 200"] > 0
