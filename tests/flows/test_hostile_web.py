"""Hostile bytes and slow clients at the real server: the short forms of web/hostile.py."""

from __future__ import annotations

import re

import pytest
from test_web_at_work import run_script

SHORT = ("--count", "50", "--hang-ups", "60", "--megabytes", "100", "--slow-seconds", "1",
         "--slow-each", "20")  # fmt: skip
LONGER = ("--count", "300", "--hang-ups", "300", "--slow-seconds", "2", "--slow-each", "20")


@pytest.mark.parametrize("options", [SHORT, pytest.param(LONGER, marks=pytest.mark.slow)])
def test_no_hostile_request_is_more_than_a_sentence(options: tuple[str, ...]) -> None:
    said = run_script("hostile.py", *options, "--seed", "7")
    count = {what: int(n) for n, what in re.findall(r"^ *(\d+)  (.+)$", said, re.MULTILINE)}
    assert count["requests"] == int(options[1])
    assert count["wrong"] == 0
    assert count["answered 200"] > 0
    assert sum(n for what, n in count.items() if "hung up" in what) == int(options[3])
