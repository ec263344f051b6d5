"""The ranks of one host are reached by nobody else: torchrun unpickles what its store is told."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

_RANK = """
import json, os, psutil
from tunebook.step.team import join_team
team = join_team("cpu")
listening = [
    [process.pid == os.getpid(), one.laddr.ip]
    for process in (psutil.Process(), psutil.Process().parent())
    for one in process.net_connections("tcp")
    if one.status == psutil.CONN_LISTEN
]
print(json.dumps({"size": team.size, "listening": listening}))
"""
_SUPERVISOR = """
import sys
from pathlib import Path
from torch.distributed.run import main
from tunebook.workflows.ranks import _Ranks, _meeting, _set_environment
_set_environment(_Ranks(1))
main([*_meeting(None, Path(sys.argv[1])), "--nproc-per-node", "1", sys.argv[2]])
"""


def test_ranks_of_one_host_and_torchrun_open_no_port_that_is_asked_for_where_they_meet(
    tmp_path: Path,
) -> None:
    script = tmp_path / "rank.py"
    script.write_text(_RANK, encoding="utf-8")
    mine = tmp_path / "mine #1"
    mine.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", _SUPERVISOR, str(mine), str(script)],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["size"] == 1
    # gloo's own, which takes tensors from ranks, is on the loopback interface.
    assert {tuple(one) for one in found["listening"]} <= {(True, "127.0.0.1"), (True, "::1")}
