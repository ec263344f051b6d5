"""A process that is shut in reaches no network, starts nothing and writes into one folder."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TRIED = """
import json, os, socket, sys
from pathlib import Path
from tunebook.models.shut_in import keep_to_folders, leave_network, limit
asked = json.load(sys.stdin)
mine, other = Path(asked["mine"]), Path(asked["other"])
limit(60, 8 << 30, asked["file_bytes"])
open_network = leave_network()
kept = keep_to_folders(mine, [Path(path) for path in sys.path if path])
done = {"open_network": open_network, "kept": kept}

def attempt(name, act):
    try:
        act()
        done[name] = None
    except OSError as error:
        done[name] = type(error).__name__

attempt("connect", lambda: socket.create_connection(("127.0.0.1", asked["port"]), 2).close())
attempt("send", lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b"x", ("192.0.2.1", 53)))
attempt("write here", lambda: (mine / "a").write_bytes(b"1"))
attempt("write too much", lambda: (mine / "b").write_bytes(b"1" * 2 * asked["file_bytes"]))
attempt("write there", lambda: (other / "a").write_bytes(b"1"))
attempt("cut there", lambda: os.truncate(other / "secret", 0))
attempt("read there", lambda: (other / "secret").read_bytes())
attempt("remove there", lambda: (other / "secret").unlink())
attempt("signal", lambda: os.kill(asked["parent"], 0))
attempt("start", lambda: os.execv("/bin/sh", ["sh", "-c", f"touch {mine}/started"]))
print(json.dumps(done))
"""


@pytest.fixture
def tried(tmp_path: Path) -> dict[str, Any]:
    mine, other = tmp_path / "mine", tmp_path / "other"
    mine.mkdir()
    other.mkdir()
    (other / "secret").write_text("kept")
    with socket.create_server(("127.0.0.1", 0)) as server:
        asked = {
            "mine": str(mine),
            "other": str(other),
            "parent": os.getpid(),
            "port": server.getsockname()[1],
            "file_bytes": 1000,
        }
        done = subprocess.run(
            [sys.executable, "-c", TRIED],
            input=json.dumps(asked),
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert (other / "secret").read_text() == "kept"
    assert not (mine / "started").exists()
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_there_is_no_network_where_the_kernel_lets_a_process_leave_it(
    tried: dict[str, Any],
) -> None:
    if tried["open_network"] is not None:
        pytest.skip(f"this kernel does not: {tried['open_network']}")
    assert tried["connect"] is not None
    assert tried["send"] is not None


def test_it_writes_into_its_folder_alone_and_starts_nothing(tried: dict[str, Any]) -> None:
    if not tried["kept"]:
        pytest.skip("this kernel has no landlock")
    assert tried["write here"] is None
    assert tried["write too much"] is not None
    outside = ("write there", "cut there", "read there", "remove there", "start")
    assert [tried[one] for one in outside] == ["PermissionError"] * 5
