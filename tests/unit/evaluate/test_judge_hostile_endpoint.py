"""An endpoint that wants more than to answer: memory, time, a key, or a door into this machine."""

from __future__ import annotations

import gzip
import os
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil
import pytest

from judge_server import Act, judge_server, says
from tunebook.errors import UsageError
from tunebook.evaluate.judge.asking import Judged, Task, judge_tasks
from tunebook.evaluate.judge.client import MAX_REPLY_BYTES, JudgeError
from tunebook.evaluate.judge.prompts import find_prompt
from tunebook.evaluate.judge.settings import Judge

TASK = Task("final", "q", "h", "Why?", "Because.", "item-1")
METADATA = (
    "169.254.169.254",
    "2852039166",
    "0xA9FEA9FE",
    "0251.0376.0251.0376",
    "0xa9.0xfe.0xa9.0xfe",
    "169.254.43518",
    "169.16689662",
    "169\u3002254\u3002169\u3002254",
    "[::ffff:169.254.169.254]",
    "[::ffff:a9fe:a9fe]",
    "[0:0:0:0:0:ffff:a9fe:a9fe]",
    "[::169.254.169.254]",
    "[64:ff9b::a9fe:a9fe]",
    "[2002:a9fe:a9fe::1]",
    "[fe80::1]",
    "[fe80::1%25lo]",
    "[fd00:ec2::254]",
    "[fd00:ec2::23]",
    "[fd20:ce::254]",
    "[fd00:c1::a9fe:a9fe]",
    "[64:ff9b:1::a9fe:a9fe]",
    "[::ffff:0:a9fe:a9fe]",
    "[2001:0:a9fe:a9fe::]",
    "169.254.169.254.",
    "192.0.0.192",
    "metadata.google.internal",
    "METADATA.google.internal.",
    "metadata",
    "metadata.goog",
    "100.100.100.200",
    "168.63.129.16",
)


def asked(url: str, **settings: object) -> Judged:
    """Ask one question; gives what came of it."""
    values = {"timeout_seconds": 1.0, "retries": 0, "base_url": url, "model": "m"}
    found: list[Judged] = []
    judge = Judge.model_validate(values | settings)
    judge_tasks([TASK], judge, find_prompt("default"), lambda _task, said: found.append(said))
    return found[0]


@contextmanager
def raw_server(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """Serve bytes over TCP, HTTP or not; gives the base URL."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                taken, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=one, args=(taken,), daemon=True).start()

    def one(taken: socket.socket) -> None:
        with taken:
            try:
                taken.recv(1 << 16)
                talk(taken)
            except OSError:
                pass

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()


@contextmanager
def grows_by_less_than(n_bytes: int) -> Iterator[None]:
    """Watch the memory of this process while a block runs."""
    process, most, over = psutil.Process(), 0, threading.Event()
    before = process.memory_info().rss

    def look() -> None:
        nonlocal most
        while not over.wait(0.005):
            most = max(most, process.memory_info().rss)

    watching = threading.Thread(target=look)
    watching.start()
    try:
        yield
    finally:
        over.set()
        watching.join()
    assert most - before < n_bytes, f"grew by {(most - before) >> 20} MiB"


@pytest.mark.parametrize("host", METADATA)
def test_an_address_where_clouds_keep_credentials_is_refused_however_it_is_written(
    host: str,
) -> None:
    with pytest.raises(UsageError, match="where clouds keep credentials"):
        asked(f"http://{host}/v1")


def test_a_name_that_leads_to_such_an_address_is_refused_also_when_it_does_so_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, leads = socket.getaddrinfo, ["127.0.0.1"]

    def resolve(host: object, *args: object, **options: object) -> object:
        if host in ("judge.example", b"judge.example"):
            host = leads[0]
        return real(host, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setenv("NO_PROXY", "*")
    with judge_server(lambda prompt, nth: says("70")) as server:
        url = server.base_url.replace("127.0.0.1", "judge.example")
        assert asked(url).value == 70
        leads[0] = "169.254.169.254"
        with pytest.raises(UsageError, match="where clouds keep credentials"):
            asked(url)
        # A name that is bound anew between the check and the question.
        leads[0] = "127.0.0.1"

        def rebind(_judge: Judge) -> None:
            leads[0] = "169.254.169.254"

        monkeypatch.setattr(Judge, "refuse_link_local", rebind)
        with pytest.raises(UsageError, match="where clouds keep credentials"):
            asked(url)
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    "where",
    [
        "file:///etc/passwd",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::ffff:169.254.169.254]/",
        "http://127.0.0.1:{port}/elsewhere",
        "//127.0.0.1:{port}/elsewhere",
        "/elsewhere",
        "gopher://127.0.0.1/",
        "",
    ],
)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed_and_no_key_goes_with_it(
    where: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-secret-of-mine")
    with judge_server(lambda prompt, nth: says("99")) as other:
        there = where.format(port=other.server_address[1])
        with (
            judge_server(lambda prompt, nth: Act(status, b"{}", {"location": there})) as server,
            pytest.raises(JudgeError, match="points elsewhere") as error,
        ):
            asked(server.base_url, key_env="MY_KEY", retries=2)
        assert not there or there not in str(error.value) or there in server.base_url
        assert len(server.requests) == 1
        assert other.requests == []


@pytest.fixture(scope="module")
def bomb() -> bytes:
    """A fifth of a megabyte that is a right answer of 200 MiB once it is unpacked."""
    packing = zlib.compressobj(9, wbits=31)
    parts = [packing.compress(b'{"choices": [{"message": {"content": "')]
    parts += [packing.compress(b"9" * (1 << 20)) for _ in range(200)]
    return b"".join([*parts, packing.compress(b'"}}]}'), packing.flush()])


@pytest.mark.parametrize("status", [200, 401, 500])
@pytest.mark.parametrize("layers", [1, 2])
def test_an_answer_that_is_packed_is_never_unpacked(status: int, layers: int, bomb: bytes) -> None:
    body = gzip.compress(bomb) if layers == 2 else bomb
    headers = {"content-encoding": ", ".join(["gzip"] * layers)}
    with judge_server(lambda prompt, nth: Act(status, body, headers)) as server:
        with grows_by_less_than(64 << 20):
            try:
                assert asked(server.base_url).value is None
            except JudgeError as error:
                assert len(str(error)) < 2000
        assert server.headers[0]["accept-encoding"] == "identity"


@pytest.mark.parametrize("status", [200, 400, 401, 500])
def test_an_answer_without_an_end_is_cut(status: int) -> None:
    def talk(taken: socket.socket) -> None:
        taken.sendall(b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\n\r\n" % status)
        while True:
            taken.sendall(b"9" * (1 << 20))

    began = time.monotonic()
    with raw_server(talk) as url, grows_by_less_than(48 * MAX_REPLY_BYTES):
        try:
            assert asked(url, timeout_seconds=20.0).value is None
        except JudgeError as error:
            assert len(str(error)) < 2000
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 400 No\r\n\r\n",
        b"HTTP/1.1 401 No\r\n\r\n",
        b"HTTP/1.1 500 No\r\n\r\n",
        b"",
        b"HTTP/1.1 200 OK\r\nx-long: ",
    ],
)
def test_an_answer_that_drips_is_timed_out(head: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    from tunebook.evaluate.judge import client

    monkeypatch.setattr(client, "_MOST_SECONDS", 3.0)

    def talk(taken: socket.socket) -> None:
        taken.sendall(head)
        while True:
            taken.sendall(b"1")
            time.sleep(0.1)

    began = time.monotonic()
    with raw_server(talk) as url:
        try:
            assert asked(url).value is None
        except JudgeError as error:
            assert "401" in str(error)
    assert time.monotonic() - began < 6


@pytest.mark.parametrize(
    "answer",
    [
        b"\x00\xff" * 400,
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"HTTP/1.1 999 X\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 60_000 + b"\r\n{}",
        b"HTTP/1.1 200 OK\r\ncontent-encoding: zstd\r\ncontent-length: 4\r\n\r\n(\xb5/\xfd",
        b"HTTP/1.1 101 Switching\r\nupgrade: websocket\r\n\r\n",
        b"HTTP/1.1 429 X\r\nretry-after: 9e99\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nset-cookie: a=b; domain=.com\r\ncontent-length: 5\r\n\r\n[" + b"[" * 4,
        b"HTTP/1.1 200 OK\r\ncontent-length: 900000\r\n\r\n" + b"[" * 900_000,
    ],
)  # fmt: skip
def test_what_is_no_http_or_no_json_is_a_fault_and_not_a_score(answer: bytes) -> None:
    with raw_server(lambda taken: taken.sendall(answer)) as url:
        try:
            said = asked(url)
        except JudgeError:
            return
    assert said.value is None
    assert said.fault


def test_the_key_goes_to_its_host_only_and_to_no_environment_of_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("OPENAI_API_KEY", "MY_KEY"):
        monkeypatch.setenv(name, f"sk-canary-{name.lower()}")
    with judge_server(lambda prompt, nth: says("70")) as server:
        asked(server.base_url)
        asked(server.base_url, key_env="MY_KEY")
    assert [one["authorization"] for one in server.headers] == [
        "Bearer none",
        f"Bearer {os.environ['MY_KEY']}",
    ]


@pytest.mark.parametrize("status", [307, 400, 401, 429, 500, 999])
def test_a_refusal_that_is_torn_off_is_a_fault_of_the_endpoint(status: int) -> None:
    with judge_server(lambda prompt, nth: Act(status, b"x" * 4000, how="torn")) as server:
        try:
            assert asked(server.base_url).unanswered
        except JudgeError as error:
            assert server.base_url in str(error)
