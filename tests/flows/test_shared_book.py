"""Many processes on one book, some of them killed: the short form of faults_io/eight.py."""

from __future__ import annotations

import re

from test_short_faults import count, run_script


def test_writers_pages_and_an_indexer_that_are_killed_lose_no_acknowledged_row() -> None:
    said = run_script("eight.py", "--count", "6", "--seed", "3")
    assert count(said, "kills$") == 6
    assert re.search(r"[1-9][\d,]{2,}  acknowledged rows", said)
    assert count(said, "lost, doubled, locked or told") == 0
