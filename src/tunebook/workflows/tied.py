"""Run a command of others that is to die with whoever started it.

Started as `python -P tied.py COMMAND...` with a pipe as standard input, which closes with the
launcher however that ends. The command and all it starts then get a SIGTERM, and a
SIGKILL where that was not enough.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

PATIENCE_SECONDS = 5.0
"""How long a server may take to end by itself."""


def main(command: Sequence[str]) -> int:
    """Run a command until it ends, or standard input does; gives its exit code."""
    # A session of its own: its helpers are ended with it, and a Ctrl-C reaches the launcher alone.
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    threading.Thread(target=_end_with_launcher, args=(process,), daemon=True).start()
    code = process.wait()
    _signal(process, signal.SIGKILL)  # a helper that outlived it
    return code if code >= 0 else 128 - code


def _end_with_launcher(process: subprocess.Popen[bytes]) -> None:
    while os.read(0, 1):
        pass
    _signal(process, signal.SIGTERM)
    time.sleep(PATIENCE_SECONDS)
    _signal(process, signal.SIGKILL)


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
