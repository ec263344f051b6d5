"""A judge on 127.0.0.1 in a process of its own; `--faults` of its answers are bad ones.

Bad ones are drawn by the question and how often it came: 500, 429, a lost connection, half an
answer, no score, no JSON. What was answered well is written to `--log`, a line per question.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

BAD = ("500", "429", "reset", "torn", "no score", "no json")


class Handler(BaseHTTPRequestHandler):
    """Answers one question after the other."""

    protocol_version = "HTTP/1.1"
    faults = 0.0
    log: Path | None = None
    counts: Counter[str] = Counter()
    lock = threading.Lock()

    def do_POST(self) -> None:
        """Answer, or do what a bad endpoint does."""
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        prompt = asked["messages"][0]["content"]
        with self.lock:
            self.counts[prompt] += 1
            nth = self.counts[prompt]
        drawn = hashlib.sha256(f"{nth} {prompt}".encode()).digest()
        bad = BAD[drawn[1] % len(BAD)] if drawn[0] < 256 * self.faults else ""
        if bad == "reset":
            self.close_connection = True
            return
        if bad in ("500", "429"):
            self._send(int(bad), b"{}", {"retry-after": "0.01"})
            return
        text = "I cannot say." if bad == "no score" else json.dumps({"score": drawn[2] % 101})
        choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        body = b"<html>" if bad == "no json" else json.dumps({"choices": [choice]}).encode()
        self._send(200, body, torn=bad == "torn")
        if not bad and self.log is not None:
            with self.lock, self.log.open("a") as file:
                file.write(hashlib.sha256(prompt.encode()).hexdigest() + "\n")

    def _send(
        self, status: int, body: bytes, headers: dict[str, str] | None = None, torn: bool = False
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if torn else body)
        self.close_connection = self.close_connection or torn

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def answering(faults: float = 0.0, log: Path | None = None) -> Iterator[str]:
    """Run this file; gives the base URL."""
    more = ["--log", str(log)] if log else []
    server = subprocess.Popen(
        [sys.executable, __file__, "--faults", str(faults), *more],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
    finally:
        server.kill()
        server.wait()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that go away are part of it."""


def main() -> None:
    """Answer until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=float, default=0.0)
    parser.add_argument("--log", type=Path)
    chosen = parser.parse_args()
    Handler.faults, Handler.log = chosen.faults, chosen.log
    server = _Server(("127.0.0.1", 0), Handler)
    print(f"http://127.0.0.1:{server.server_address[1]}/v1", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
