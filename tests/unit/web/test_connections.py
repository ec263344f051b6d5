"""Connections that keep the server waiting, or speak no HTTP: closed, and without a word."""

from __future__ import annotations

import contextlib
import logging
import socket
import struct
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any

import pytest
import uvicorn

from tunebook.web import connections
from tunebook.web.connections import Connection
from tunebook.web.serve import _listen

LARGE = 8 << 20
"""More than the buffers of a socket hold."""

Message = MutableMapping[str, Any]


async def app(
    scope: Message,
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    """Answer at once, after the body, or with a large page."""
    path = scope["path"]
    if path == "/after":
        while (await receive()).get("more_body"):
            pass
    body = b"x" * (LARGE if path == "/large" else 3)
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[uvicorn.Server]:
    """A server that waits for half a second, and takes six connections."""
    monkeypatch.setattr(connections, "PATIENCE_SECONDS", 0.5)
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 6)
    listening = _listen("127.0.0.1", 0)
    config = uvicorn.Config(
        app, http=Connection, ws="none", log_level="warning", access_log=False, lifespan="off"
    )
    started = uvicorn.Server(config)
    thread = threading.Thread(target=started.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not started.started:
        time.sleep(0.01)
    started.config.port = listening.getsockname()[1]
    yield started
    started.should_exit = True
    thread.join(30)
    listening.close()


def opened(server: uvicorn.Server, first: bytes = b"") -> socket.socket:
    one = socket.create_connection(("127.0.0.1", server.config.port), timeout=20)
    one.sendall(first)
    return one


def head(path: str, more: str = "", method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nhost: x\r\n{more}\r\n".encode()


def everything(one: socket.socket) -> bytes:
    """Read until the server closes."""
    parts = []
    try:
        while part := one.recv(1 << 16):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    """List what a log would show as an error."""
    return [one.getMessage() for one in caplog.records if one.levelno >= logging.ERROR]


@pytest.mark.parametrize(
    ("first", "drop"),
    [
        (b"", b""),
        (b"GET / HTTP/1.1\r\nhost: x\r\n", b"a: b\r\n"),
        (b"GET / HTTP/1.1\r\nhost: x\r\na: ", b"b"),
        (head("/after", "content-length: 99999\r\n", "POST"), b"y"),
        (head("/at-once", "content-length: 99999\r\n", "POST"), b"y"),
        (head("/after", "transfer-encoding: chunked\r\n", "POST"), b"1\r\ny\r\n"),
    ],
)
def test_a_request_that_does_not_come_to_its_end_is_not_waited_for(
    server: uvicorn.Server, first: bytes, drop: bytes
) -> None:
    with opened(server, first) as one:
        one.settimeout(0.1)
        began, closed = time.monotonic(), False
        while not closed and time.monotonic() - began < 20:
            try:
                one.sendall(drop)
                closed = one.recv(4096) == b""
            except TimeoutError:
                continue
            except OSError:
                closed = True
        assert closed
        assert time.monotonic() - began > 0.3


def test_who_reads_nothing_is_not_waited_for_but_who_reads_slowly_is(
    server: uvicorn.Server,
) -> None:
    asked = head("/large", "connection: close\r\n")
    with opened(server, asked) as nothing, opened(server, asked) as slowly:
        read = 0
        for _ in range(10):  # three times as long as the server waits
            time.sleep(0.15)
            read += len(slowly.recv(600_000))
        read += len(everything(slowly))
        assert read > LARGE
        assert len(everything(nothing)) < LARGE


def test_beside_too_many_silent_ones_who_waits_longest_makes_room(server: uvicorn.Server) -> None:
    connections.PATIENCE_SECONDS = 60  # the fixture puts it back
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(opened(server)) for _ in range(20)]
        with opened(server, head("/", "connection: close\r\n")) as one:
            assert b"200 OK" in everything(one)
        assert len(server.server_state.connections) <= 6
        assert everything(silent[0]) == b""
        silent[-1].sendall(head("/", "connection: close\r\n"))
        assert b"200 OK" in everything(silent[-1])


def test_a_connection_that_is_used_again_and_again_stays_open(server: uvicorn.Server) -> None:
    with opened(server) as one:
        for _ in range(6):
            one.sendall(head("/"))
            answer = b""
            while not answer.endswith(b"xxx"):
                answer += one.recv(4096)
            time.sleep(0.2)  # together twice as long as the server waits for a request


@pytest.mark.parametrize("path", ["/at-once", "/after", "/large"])
@pytest.mark.parametrize("pause", [0.0, 0.05])
@pytest.mark.parametrize(
    "then",
    [b"zz\r\nxx", b"3\r\nabc", b"\x00\xff GET\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\nno HTTP\r\n\r\n"],
)
def test_what_is_no_http_behind_a_head_leaves_no_traceback(
    server: uvicorn.Server, caplog: pytest.LogCaptureFixture, path: str, pause: float, then: bytes
) -> None:
    with opened(server, head(path, "transfer-encoding: chunked\r\n", "POST")) as one:
        time.sleep(pause)
        one.sendall(then)
        one.shutdown(socket.SHUT_WR)
        everything(one)
    assert complaints(caplog) == []


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_what_is_no_http_behind_the_head_of_a_head_leaves_no_traceback(
    server: uvicorn.Server, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    asked = head("/after", "transfer-encoding: chunked\r\n", method)
    with opened(server, asked + b"zz\r\n") as one:
        assert everything(one)[9:12] in (b"400", b"")
    assert complaints(caplog) == []


@pytest.mark.parametrize("reset", [True, False])
def test_who_hangs_up_within_an_answer_leaves_no_traceback(
    server: uvicorn.Server, caplog: pytest.LogCaptureFixture, reset: bool
) -> None:
    for number in range(20):
        one = opened(server, head("/large") * (1 + number % 3))
        if number % 2:
            one.recv(1000 * number)
        if reset:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        one.close()
    with opened(server, head("/", "connection: close\r\n")) as one:
        assert b"200 OK" in everything(one)
    assert complaints(caplog) == []


def test_small_answers_are_sent_at_once(server: uvicorn.Server) -> None:
    with opened(server, head("/")) as one:
        one.recv(4096)
        (taken,) = server.server_state.connections
        there = taken.transport.get_extra_info("socket")  # type: ignore[union-attr]
        assert there.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
