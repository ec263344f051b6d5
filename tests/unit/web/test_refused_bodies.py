"""What follows a request that was refused is read by nobody, and is no request of its own."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path

import pytest
import uvicorn

from made_runs import make_run
from tunebook.web.app import make_app
from tunebook.web.connections import Connection
from tunebook.web.guard import Guard
from tunebook.web.serve import _listen

SECONDS = 20.0
"""Of a machine that others use too; each answer takes milliseconds."""
NEXT = b"GET /runs.json HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"


@pytest.fixture
def port(book: Path) -> Iterator[int]:
    """The port of a server that asks for a token."""
    make_run(book, "run_1")
    listening = _listen("127.0.0.1", 0)
    config = uvicorn.Config(
        make_app(book, Guard(token="sesame")), http=Connection, ws="none", access_log=False,
        log_level="error", lifespan="off",
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield listening.getsockname()[1]
    server.should_exit = True
    thread.join(30)


def ask(port: int, line: str, *headers: str, body: bytes = b"") -> tuple[bytes, bool]:
    """Send a request and another behind its body; gives all answers, and whether that was all."""
    head = "\r\n".join((f"{line} HTTP/1.1", "host: 127.0.0.1", *headers)) + "\r\n\r\n"
    answers = b""
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as taken:
        taken.sendall(head.encode() + body + NEXT)
        try:
            while part := taken.recv(1 << 16):
                answers += part
        except ConnectionResetError:
            pass
        except TimeoutError:
            return answers, False
    return answers, True


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        (("transfer-encoding: chunked",), b"0\r\n\r\n", b"411"),
        (("content-length: 99999999",), b"a=b", b"413"),
        (("content-length: 99999999", "expect: 100-continue"), b"", b"413"),
    ],
)
def test_a_body_that_is_refused_ends_its_connection(
    port: int, headers: tuple[str, ...], body: bytes, status: bytes
) -> None:
    known = "authorization: Bearer sesame"
    answers, over = ask(port, "POST /runs/run_1/note", known, *headers, body=body)
    assert (answers[9:12], answers.count(b"HTTP/1.1 "), over) == (status, 1, True)
    assert b"connection: close" in answers.lower()


def test_a_form_without_the_token_ends_its_connection(port: int) -> None:
    answers, over = ask(port, "POST /", "content-length: 3", body=b"a=b")
    assert (answers[9:12], answers.count(b"HTTP/1.1 "), over) == (b"401", 1, True)


def test_a_page_that_was_asked_for_with_a_body_is_the_last_of_its_connection(port: int) -> None:
    known = "authorization: Bearer sesame"
    answers, over = ask(port, "GET /notebook", known, "content-length: 3", body=b"a=b")
    assert (answers[9:12], answers.count(b"HTTP/1.1 "), over) == (b"200", 1, True)


def test_a_refusal_without_a_body_leaves_the_connection_open(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as taken:
        for _ in range(3):  # one after the other, each when the one before was answered whole
            taken.sendall(b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
            answer = HTTPResponse(taken)
            answer.begin()
            assert (answer.status, answer.will_close) == (401, False)
            assert b"asks for its token" in answer.read()
