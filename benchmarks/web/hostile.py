"""Thousands of hostile requests to the real `tunebook ui`, byte by byte over a socket (W2).

    python benchmarks/web/hostile.py --count 5000 --seed 0

The book holds runs, pages and a key in the environment of the server; beside the book lies a
secret file. Each request is drawn from: every path of the server and paths that climb out of it, in
every method; hosts of others and hosts that are none; origins, cookies, tokens and forms of others;
headers and bodies that are too long, too many, torn, doubled or no HTTP at all. Some meet a server
without a token, some show it the right one, some a wrong one or none. Then slow ones:
connections that send nothing, a header or a body a byte at a time, readers that read nothing, while
somebody else asks for a page. And clients that hang up or reset at a random moment, or send what is
no HTTP while they are answered.

No answer may be a 5xx, hold the secret file, the key or a traceback, or let another site read. No
file of the book may change, and the server has to answer at the end within a second.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import random
import re
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import psutil

sys.path.append(str(Path(__file__).resolve().parents[1] / "faults_io"))

from made import make_book
from safety import record
from served import TOKEN, Client, machine, share

from tunebook.web.entry import cookie_of

SLOWEST_MS = 1000.0
"""What half of the pages may take beside slow connections."""
KEY = "sk-canary-of-the-server-0123456789"
SECRET = "the secret beside the book"
MODES = {"no token": 0.4, "token shown": 0.4, "token not shown": 0.2}
"""How a visitor meets the server, and with what share of the requests."""
PLAIN = ("/", "/runs/run-000", "/notebook", "/lineage", "/runs.csv", "/static/app.css")
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT",
           "PROPFIND", "get", "G\x00T", "X" * 500)  # fmt: skip
CLIMBS = (
    "../../secret.txt", "..%2f..%2fsecret.txt", "%2e%2e/%2e%2e/secret.txt", "..%5c..%5csecret.txt",
    "....//secret.txt", "%252e%252e%252fsecret.txt", "..%c0%afsecret.txt", "/etc/passwd",
    "file:///etc/passwd", "%00", "run.yaml%00.png", "..;/secret.txt", "\\..\\secret.txt",
    "C:\\secret.txt", "//evil.example/x", "%ff%fe", "x" * 3000, "<script>alert(1)</script>", ".",
    "..", "", "%0d%0aset-cookie:%20a=b", "é", "\ud7ff".encode("utf-8").decode("latin-1"), "${7*7}",
)  # fmt: skip
HOSTS = (
    "evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "169.254.169.254", "[::1",
    "127.0.0.1@evil.example", "evil.example:80", "0.0.0.0", "", "a]b", "127.0.0.1:99999999",
    "LOCALHOST", "127.0.0.1\t", "x" * 5000, "[::ffff:7f00:1]", "2130706433", "localhost.",
)  # fmt: skip
ODD = ("NaN", "-1", "9" * 400, "null", "' OR 1=1 --", "%00", "a=b", "<x>", "../..", "1e999", "")


def paths(book: Path) -> list[str]:
    """List every path of the server, with the names it takes left in braces."""
    from tunebook.web.app import make_app

    return list(make_app(book).openapi()["paths"])


def draw(rng: random.Random, every: list[str], port: int, shows: bool) -> tuple[bytes, bool]:
    """Draw a request, with the token where it `shows` it.

    Gives its bytes, and whether its host is one that must be refused.
    """
    path = rng.choice(every)
    for name in ("{name}", "{file}", "{path}", "{number}"):
        good = "run-000" if name == "{name}" else "run.yaml"
        path = path.replace(name, rng.choice((good, rng.choice(CLIMBS))))
    if rng.random() < 0.2:
        path = rng.choice(("/", "/static/", "/runs/", "/notebook/", "")) + rng.choice(CLIMBS)
    if rng.random() < 0.3:
        names = rng.choices(("run", "filter", "sort", "columns", "since", "y", "token", "q"), k=3)
        path += "?" + "&".join(f"{n}={rng.choice((*ODD, *CLIMBS[:6]))}" for n in names)
    method = rng.choice(rng.choice((("GET", "POST"), METHODS[:8], METHODS[:8], METHODS)))
    evil_host = rng.random() < 0.25
    host = rng.choice(HOSTS[:8]) if evil_host else f"127.0.0.1:{port}"
    if not evil_host and rng.random() < 0.1:
        host = rng.choice(HOSTS)
    headers = [f"host: {host}"] + [f"authorization: Bearer {TOKEN}"] * shows
    if not evil_host and rng.random() < 0.1:  # one that is as it should be, between the others
        return "\r\n".join((f"GET {rng.choice(PLAIN)} HTTP/1.1", *headers, "", "")).encode(), False
    headers += rng.sample(
        (
            "origin: http://evil.example", "origin: null", f"origin: http://127.0.0.1:{port}",
            "sec-fetch-site: cross-site", "referer: http://evil.example/",
            "cookie: tunebook_token=x", f"cookie: {cookie_of(TOKEN)[0]}=x",
            "authorization: Bearer x", "x-csrf-token: x", "x-forwarded-host: evil.example",
            "x-original-url: /../secret.txt", "upgrade: websocket", "expect: 100-continue",
            "content-type: application/x-www-form-urlencoded", "content-type: multipart/form-data",
            "content-type: multipart/form-data; boundary=a", "content-type: application/json",
            "range: bytes=0-", "range: bytes=9-1,-9", "accept-encoding: gzip", "hx-request: true",
            "if-modified-since: x", f"host: {host}", "transfer-encoding: chunked",
            "a" * 2000 + ": b",
            "content-length: 5", "content-length: -5", "x: " + "y" * 9000,
            "cookie: " + "a=b;" * 900,
        ),
        rng.choice((0, 0, 1, 1, 2, 3, 5)),
    )  # fmt: skip
    body = rng.choice(
        (b"", b"csrf=x&text=fooled", b"--a\r\nx: y\r\n\r\n", b"{" * 900, b"a=b&" * 2000,
         b"5\r\nhello\r\n0\r\n\r\n", b"\x00\xff" * 50, b"zz\r\n")
    )  # fmt: skip
    if rng.random() < 0.7 and not any(h.startswith("content-length") for h in headers):
        headers.append(f"content-length: {len(body)}")
    head = f"{method} {path} HTTP/{rng.choice(('1.1', '1.1', '1.1', '1.0', '9.9'))}\r\n"
    whole = (head + "\r\n".join(headers) + "\r\n\r\n").encode("utf-8") + body
    if rng.random() < 0.03:
        whole = rng.randbytes(rng.randint(1, 3000))
    elif rng.random() < 0.03:
        whole = whole[: rng.randint(1, len(whole))]
    return whole, evil_host and host not in ("0.0.0.0",)


def send(port: int, request: bytes) -> bytes:
    """Send bytes; gives what came back, or nothing when the server said nothing or hung up."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as taken:
        parts = []
        with contextlib.suppress(ConnectionError):
            taken.sendall(request)
            taken.shutdown(socket.SHUT_WR)
            while part := taken.recv(1 << 16):
                parts.append(part)
    return b"".join(parts)


def check(request: bytes, answer: bytes, evil: bool, asks_token: bool) -> str | None:
    """Say what is wrong with an answer, or nothing; `asks_token`: the token was not shown."""
    if answer[9:12] in (b"411", b"413") and answer.count(b"HTTP/1.1 ") > 1:
        return "answered what followed a body that was refused"
    for number, one in enumerate(answer.split(b"HTTP/1.1 ")[1:]):
        status = one[:3]
        if status.startswith(b"5"):
            return f"answered {one[:200]!r}"
        if number == 0 and asks_token and status == b"200" and b" /static/" not in request[:99]:
            return "answered a visitor without the token"
        if number == 0 and evil and status.startswith((b"2", b"3")):
            return "answered to the host of another"
    lower = answer.lower()
    for word in (SECRET.encode(), KEY.encode(), TOKEN.encode(), b"root:x:0:0", b"Traceback"):
        if word in answer:
            return f"holds {word!r}"
    if b"access-control-allow-origin" in lower:
        return "lets another site read"
    # Among the headers: as words on a page it is harmless.
    if re.search(rb"http/1\.1 \d{3}(?:(?!\r\n\r\n).)*\r\nset-cookie: a=b", lower, re.DOTALL):
        return "sets a cookie that the question named"
    if b"\r\nlocation: " in lower and b"evil.example" in lower.partition(b"\r\nlocation: ")[2][:40]:
        return "leads to the host of another"
    return None


def slow(port: int, seconds: float, each: int, counts: Counter[str]) -> list[float]:
    """Keep slow and half-open connections; gives how long somebody else waited, in ms."""
    over = threading.Event()
    head = f"GET / HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n".encode()
    post = f"POST /runs/run-000/note HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n".encode()
    kinds = {
        "says nothing": (b"", b""),
        "drips a header": (head, b"x: y\r\n"),
        "drips one long header": (head + b"x: ", b"y"),
        "drips a body": (post + b"content-length: 999999\r\n\r\n", b"y"),
        "drips chunks": (post + b"transfer-encoding: chunked\r\n\r\n", b"1\r\ny\r\n"),
        "reads nothing": (head + b"\r\n", head + b"\r\n"),
    }
    taken: list[socket.socket] = []

    def drip(which: str) -> None:
        first, then = kinds[which]
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", port), timeout=30) as one,
        ):
            taken.append(one)
            one.sendall(first)
            counts[f"slow: {which}"] += 1
            while not over.wait(0.3):
                one.sendall(then)

    threads = [threading.Thread(target=drip, args=(k,)) for k in kinds for _ in range(each)]
    for thread in threads:
        thread.start()
    took, until = [], time.monotonic() + seconds
    while time.monotonic() < until:
        status, _, waited = Client(port).get("/")
        assert status == 200
        took.append(waited * 1000)
        time.sleep(0.1)
    over.set()
    for one in taken:
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
    for thread in threads:
        thread.join()
    return took


def hang_up(port: int, rng: random.Random) -> str:
    """Break a connection off at some moment of a request or its answer; gives how."""
    path = rng.choice(("/", "/runs/run-000", "/runs/run-000/curves.csv", "/sweep", "/notebook",
                       "/curves.json?run=run-000", "/static/vendor/htmx.min.js"))  # fmt: skip
    host = f"host: 127.0.0.1:{port}\r\n"
    get = f"GET {path} HTTP/1.1\r\n{host}\r\n".encode()
    post = f"POST {path} HTTP/1.1\r\n{host}"
    form = "content-type: application/x-www-form-urlencoded\r\ncontent-length: 50\r\n\r\ncsrf=x"
    chunks = f"{post}transfer-encoding: chunked\r\n\r\n".encode()
    how = {
        "one request": (get, b""),
        "several requests": (get * rng.randint(2, 6), b""),
        "half a form": ((post + form).encode(), b"aaa"),
        "broken chunks": (chunks, b"zz\r\nxx"),
        "broken chunks of a GET": (chunks.replace(b"POST", b"GET", 1), b"5\r\nhello\r\nzz\r\n"),
        "no HTTP behind a request": (get, rng.randbytes(50) + b"\r\n\r\n"),
    }
    which = rng.choice(list(how))
    with (
        contextlib.suppress(OSError),
        socket.create_connection(("127.0.0.1", port), timeout=5) as one,
    ):
        one.sendall(how[which][0])
        if rng.random() < 0.7:
            time.sleep(rng.random() * rng.choice((0.002, 0.02, 0.05)))
        one.sendall(how[which][1])
        if rng.random() < 0.3 and "GET" in how[which][0][:3].decode():
            one.recv(rng.choice((10, 5000)))
        if rng.random() < 0.5:  # what is left unread is then answered with a reset
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif rng.random() < 0.5:
            one.shutdown(socket.SHUT_WR)
    return which


def large(port: int, server: int, megabytes: int, counts: Counter[str]) -> list[str]:
    """Send a body and a header without an end; the server's memory may not grow with them."""
    wrong, before = [], psutil.Process(server).memory_info().rss
    for name, head in {
        "a body without end": f"POST /runs/run-000/note HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n"
        "content-type: application/x-www-form-urlencoded\r\ncontent-length: 200000000\r\n\r\n",
        "chunks without end": f"POST /side/vote HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n"
        "content-type: application/x-www-form-urlencoded\r\ntransfer-encoding: chunked\r\n\r\n",
        "a body without end to a page that takes none": f"PUT / HTTP/1.1\r\n"
        f"host: 127.0.0.1:{port}\r\ncontent-length: 200000000\r\n\r\n",
        "a header without end": f"GET / HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nx: ",
    }.items():
        part = b"a" * (1 << 20)
        if "chunks" in name:
            part = b"100000\r\n" + part + b"\r\n"
        most, answer = 0, b""
        with socket.create_connection(("127.0.0.1", port), timeout=30) as taken:
            with contextlib.suppress(OSError):
                taken.sendall(head.encode())
                for _ in range(megabytes):
                    taken.sendall(part)
                    most = max(most, psutil.Process(server).memory_info().rss - before)
            with contextlib.suppress(OSError):
                taken.settimeout(2)
                answer = taken.recv(4096)
        most = max(most, psutil.Process(server).memory_info().rss - before)
        counts[f"large: {name}"] += 1
        if most > 64 << 20:
            wrong.append(f"{name}: the server grew by {most >> 20} MiB")
        if answer.startswith(b"HTTP/1.1 5"):
            wrong.append(f"{name}: answered {answer[:60]!r}")
    return wrong


@contextlib.contextmanager
def started(book: Path, log: Path, *options: str):  # type: ignore[no-untyped-def]
    """Run the server with a key in its environment; gives its port and process."""
    with log.open("ab") as errors:
        server = subprocess.Popen(
            [sys.executable, "-m", "tunebook", "ui", "--port", "0", *options],
            cwd=book, stdout=subprocess.PIPE, stderr=errors, text=True,
            env={**os.environ, "OPENAI_API_KEY": KEY, "HF_TOKEN": KEY, "WANDB_API_KEY": KEY},
        )  # fmt: skip
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        try:
            yield urlsplit(address.split()[0]).port, server.pid
        finally:
            server.terminate()
            server.wait(30)


def contents(book: Path) -> dict[str, bytes]:
    """Read what may not change."""
    files = (p for p in book.rglob("*") if p.is_file() and ".tunebook" not in p.parts)
    return {str(p): p.read_bytes() for p in files}


def main() -> int:
    """Ask so often as wanted."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--count", type=int, default=5000)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--slow-seconds", type=float, default=20)
    options.add_argument("--slow-each", type=int, default=40)
    options.add_argument("--hang-ups", type=int, default=1000)
    options.add_argument("--megabytes", type=int, default=190)
    options.add_argument("--write", action="store_true", help="into benchmarks/results/safety")
    chosen = options.parse_args()
    rng, counts, wrong = random.Random(chosen.seed), Counter[str](), []
    beside = math.nan
    with tempfile.TemporaryDirectory() as scratch:
        book = make_book(Path(scratch) / "book", 3, 300)
        (Path(scratch) / "secret.txt").write_text(SECRET)
        every, before, log = paths(book), contents(book), Path(scratch) / "log"
        print(f"{len(every)} paths; {machine()}", flush=True)
        for mode, share_of in MODES.items():
            more = ("--no-token",) if mode == "no token" else ("--token", TOKEN)
            asks_token, shows = mode == "token not shown", mode == "token shown"
            with started(book, log, *more) as (port, server):
                for _ in range(round(chosen.count * share_of)):
                    request, evil = draw(rng, every, port, shows)
                    try:
                        answer = send(port, request)
                    except TimeoutError:
                        counts["asked again after 20 s"] += 1
                        try:
                            answer = send(port, request)
                        except TimeoutError:
                            wrong.append(f"{request[:300]!r}: twice no answer within 20 s")
                            answer = b""
                    counts["requests"] += 1
                    counts[f"answered {answer[9:12].decode('latin-1') or 'with nothing'}"] += 1
                    if found := check(request, answer, evil, asks_token):
                        wrong.append(f"{request[:300]!r}: {found}")
                if mode == "no token":
                    for _ in range(chosen.hang_ups):
                        counts[f"hung up within {hang_up(port, rng)}"] += 1
                    wrong += large(port, server, chosen.megabytes, counts)
                    took = slow(port, chosen.slow_seconds, chosen.slow_each, counts)
                    beside = share(took, 0.5)
                    print(f"beside slow ones: {len(took)} pages, median {beside:.0f} ms, "
                          f"worst {max(took):.0f} ms")  # fmt: skip
                    if beside > SLOWEST_MS:
                        wrong.append(f"beside slow ones a page takes {beside:.0f} ms")
                    status, _, seconds = Client(port).get("/")
                    if (status, seconds < 5) != (200, True):
                        wrong.append(f"at the end: {status} after {seconds:.1f} s")
        said = log.read_text(errors="replace")
        for word in ("Traceback", "this is a bug", KEY, SECRET, TOKEN):
            if word in said:
                wrong.append(f"the log holds {word}: {said[:4000]}")
        if contents(book) != before:
            wrong.append("a file of the book changed")
    for word, number in sorted(counts.items()):
        print(f"{number:7,}  {word}")
    print(f"{len(wrong):7,}  wrong")
    for line in wrong[:40]:
        print(line)
    record("W2", "W2", "Hostile requests over a socket, with a token and without: no 5xx, no "
           "secret, nothing outside of the book, no file changed, no body held in memory, and a "
           "page is answered beside slow and half-open connections", chosen, counts["requests"],
           len(wrong), f"with a token, without one, and without showing it; beside slow and "
           f"half-open connections a page takes {beside:.0f} ms in the median")  # fmt: skip
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
