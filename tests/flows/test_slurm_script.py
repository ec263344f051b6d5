"""The Slurm script, with two tasks of this machine in place of two nodes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_train_flow import STEPS, write_run

from tunebook.book.events import read_events
from tunebook.book.liveness import current_state
from tunebook.book.places import RunFolder

SCRIPT = Path(__file__).parents[2] / "docs/slurm/train.sbatch"

SRUN = """\
#!/bin/bash
# Two tasks, as srun starts them on two nodes; ends with the largest of their exit codes.
shift
for node in 0 1; do SLURM_NODEID=$node "$@" & echo $! >> "$FAKE_SLURM/tasks"; done
code=0
for task in $(cat "$FAKE_SLURM/tasks"); do
  wait "$task" || { own=$?; [ "$own" -gt "$code" ] && code=$own; }
done
rm "$FAKE_SLURM/tasks"
exit "$code"
"""
SCONTROL = """\
#!/bin/bash
if [ "$1" = show ]; then echo 127.0.0.1; else echo "$@" >> "$FAKE_SLURM/requeued"; fi
"""


@pytest.fixture
def slurm(tmp_path: Path, unused_port: int) -> dict[str, str]:
    """The environment of a job on two nodes."""
    if shutil.which("bash") is None:
        pytest.skip("there is no bash here")
    folder = tmp_path / "slurm"
    folder.mkdir()
    texts = {
        "srun": SRUN,
        "scontrol": SCONTROL,
        "tunebook": f'#!/bin/bash\nexec {sys.executable} -m tunebook "$@"\n',
        "train.sbatch": SCRIPT.read_text(encoding="utf-8").replace("29500", str(unused_port)),
    }
    for name, text in texts.items():
        path = folder / name
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{folder}:{os.environ['PATH']}",
        "FAKE_SLURM": str(folder),
        "SLURM_JOB_ID": "17",
        "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_NNODES": "2",
        "OMP_NUM_THREADS": "1",
    }


def submit(book: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    script = str(Path(environment["FAKE_SLURM"]) / "train.sbatch")
    return subprocess.Popen(
        ["bash", script, "both.yaml", "both"],
        cwd=book,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_a_job_whose_time_is_over_is_requeued_and_goes_on(
    book: Path, tiny_model: Path, slurm: dict[str, str]
) -> None:
    write_run(book, "both", tiny_model, devices=2)
    run, folder = RunFolder(book, "both"), Path(slurm["FAKE_SLURM"])
    job = submit(book, slurm)
    until = time.monotonic() + 240
    while not (run.exists() and len(read_events(run).steps) >= 5):
        assert job.poll() is None, job.communicate()
        assert time.monotonic() < until
        time.sleep(0.05)
    for task in (folder / "tasks").read_text(encoding="utf-8").split():
        os.kill(int(task), signal.SIGTERM)
    _, err = job.communicate(timeout=120)
    assert job.returncode == 143, err
    assert current_state(run) == "paused"
    assert "run both paused on all of its hosts" in err  # the second node
    assert (folder / "requeued").read_text(encoding="utf-8") == "requeue 17\n"
    before = len(read_events(run).steps)
    assert before < STEPS
    again = submit(book, slurm)
    _, err = again.communicate(timeout=240)
    assert again.returncode == 0, err
    assert current_state(run) == "finished"
    assert [record.step for record in read_events(run).steps] == list(range(1, STEPS + 1))
