"""A run that is stopped while its data is tokenized pauses at once and goes on where it was."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

from tunebook.book.liveness import current_state
from tunebook.book.places import RunFolder

RUN = """\
name: r
model: tunebook/tiny
stage: cpt
data: [{path: big.jsonl}]
validation: {fraction: 0.001, sample: 4}
max_seq_len: 64
train: {max_steps: 1, effective_batch_size: 2}
evaluate: {prompts: []}
"""


def tunebook(book: Path, *argv: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tunebook", *argv],
        cwd=book,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_stop_while_tokenizing_pauses_and_resume_goes_on(book: Path) -> None:
    line = json.dumps({"text": "All the words of a long and rather dull book about roses. " * 20})
    with (book / "big.jsonl").open("w", encoding="utf-8") as stream:
        for number in range(45_000):
            stream.write(f'{line[:-2]} {number}"}}\n')
    (book / "r.yaml").write_text(RUN)
    process = tunebook(book, "train", "r.yaml")
    cache = book / ".tunebook" / "cache"
    ends = time.monotonic() + 120
    while not list(cache.glob(".tmp-*/facts-*.json")):
        assert time.monotonic() < ends
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 143, said
    run = RunFolder(book, "r")
    assert current_state(run) == "paused"
    n_made = len(list(cache.glob(".tmp-*/facts-*.json")))
    assert n_made >= 1
    again = tunebook(book, "resume", "r")
    said = again.communicate(timeout=300)[0]
    assert again.returncode == 0, said
    assert current_state(run) == "finished"
