"""The real `tunebook ui` on a book, and what asking it costs; visitors show its token."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

TOKEN = "the-token-of-a-measurement"


@contextmanager
def served(book: Path) -> Iterator[int]:
    """Run the server of a book as its user does; gives its port."""
    log = book.parent / "server.log"
    with open(log, "wb") as errors:
        server = subprocess.Popen(
            [sys.executable, "-m", "tunebook", "ui", "--port", "0"],
            cwd=book, stdout=subprocess.PIPE, stderr=errors, text=True,
            env={**os.environ, "TUNEBOOK_UI_TOKEN": TOKEN},
        )  # fmt: skip
        try:
            assert server.stdout is not None
            address = server.stdout.readline().strip()
            if not address:
                raise SystemExit(f"the server did not start: {log.read_text()}")
            port = urlsplit(address).port
            assert port is not None
            yield port
        finally:
            server.terminate()
            server.wait(30)
    if said := log.read_text():
        raise SystemExit(f"the server said: {said}")


class Client:
    """One connection to the server, kept open as a browser keeps it; it shows `TOKEN`."""

    def __init__(self, port: int):
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)

    def get(self, path: str) -> tuple[int, bytes, float]:
        """Ask for a path; gives status, body and the seconds until the last byte was there."""
        began = time.perf_counter()
        self._connection.request("GET", path, headers={"Authorization": f"Bearer {TOKEN}"})
        answer = self._connection.getresponse()
        body = answer.read()
        return answer.status, body, time.perf_counter() - began

    def timed(self, path: str) -> tuple[bytes, float]:
        """Ask for a path that must be there; gives body and milliseconds."""
        status, body, seconds = self.get(path)
        if status != 200:
            raise SystemExit(f"{path} answered {status}: {body[:300].decode(errors='replace')}")
        return body, seconds * 1000


def share(values: list[float], fraction: float) -> float:
    """Give the value that a fraction of the values does not pass."""
    ordered = sorted(values)
    return ordered[min(int(fraction * len(ordered)), len(ordered) - 1)]


def machine() -> str:
    """Say in a line on what was measured, with the load of the last minute."""
    import platform
    from importlib.metadata import version

    libraries = ", ".join(f"{n} {version(n)}" for n in ("fastapi", "uvicorn", "numpy", "orjson"))
    return (
        f"{os.cpu_count()} CPU cores, load {os.getloadavg()[0]:.1f}, "
        f"Python {platform.python_version()}, {libraries}"
    )
