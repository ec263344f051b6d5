"""A small judge on 127.0.0.1 that speaks the chat protocol, well or badly, and counts."""

from __future__ import annotations

import json
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Behaviour = Callable[[str, int], "Act"]
"""From the prompt and how often it came (from 1) to what the server does."""


@dataclass
class Act:
    """An answer over HTTP; `how` is plain, reset (before any byte), torn (in the body) or drip."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    how: str = "plain"


def says(text: str | None, usage: bool = True, finish: str = "stop", **more: Any) -> Act:
    """Answer with a text, as the protocol has it."""
    message = {"role": "assistant", "content": text}
    found: dict[str, Any] = {"choices": [{"message": message, "finish_reason": finish}]}
    if usage:
        found["usage"] = {"prompt_tokens": 100, "completion_tokens": 10}
    return Act(body=json.dumps(found).encode(), **more)


class JudgeServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, behave: Behaviour) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behave = behave
        self.counts: Counter[str] = Counter()
        self.began: list[tuple[float, str]] = []
        self.answered: list[tuple[float, str]] = []
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.lock = threading.Lock()
        self.stopping = threading.Event()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that go away are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    server: JudgeServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        prompt = asked["messages"][0]["content"]
        with self.server.lock:
            self.server.counts[prompt] += 1
            nth = self.server.counts[prompt]
            self.server.began.append((time.monotonic(), prompt))
            self.server.requests.append(asked)
            self.server.headers.append({k.lower(): v for k, v in self.headers.items()})
        act = self.server.behave(prompt, nth)
        self.server.stopping.wait(act.seconds)
        if act.how == "reset":
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()
            self.close_connection = True
            return
        self.send_response(act.status)
        for name, value in act.headers.items():
            self.send_header(name, value)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(act.body)))
        self.end_headers()
        if act.how == "torn":
            self.wfile.write(act.body[: len(act.body) // 2])
            self.close_connection = True
            return
        for start in range(0, len(act.body), 1) if act.how == "drip" else [0]:
            self.wfile.write(act.body[start : start + 1] if act.how == "drip" else act.body)
            if act.how == "drip":
                self.wfile.flush()
                if self.server.stopping.wait(0.1):
                    return
        if act.status == 200:
            with self.server.lock:
                self.server.answered.append((time.monotonic(), prompt))

    def log_message(self, format: str, *args: object) -> None:
        """Keep the tests' output clean."""


@contextmanager
def judge_server(behave: Behaviour) -> Iterator[JudgeServer]:
    """Run a judge in a thread."""
    server = JudgeServer(behave)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.stopping.set()
        server.shutdown()
        thread.join()
        server.server_close()


def item_of(prompt: str) -> str:
    """Tell which of the tests' items a prompt is about."""
    found = re.search(r"item-\d+", prompt)
    assert found is not None
    return found[0]
