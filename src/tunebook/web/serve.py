"""Start the server and say where it is."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import socket
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from urllib.parse import quote, urlsplit

import uvicorn

from tunebook.errors import UsageError
from tunebook.web.app import make_app
from tunebook.web.connections import MOST_CONNECTIONS, Connection
from tunebook.web.guard import LOOPBACK, Guard

LEAST_TOKEN = 16
"""Letters of a token that other machines may try to guess; one that is made has 43."""
_EVERYWHERE = ("0.0.0.0", "::")
_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")


def serve(
    book: Path,
    host: str,
    port: int,
    token: str | None,
    say: Callable[[str], None],
    *,
    names: Iterable[str] = (),
    debug: bool = False,
) -> None:
    """Serve a book until it is interrupted; `say` is told the address, once it answers.

    `names` are hosts that it answers to beside this machine's own. Raises UsageError for an address
    of other machines without a token of `LEAST_TOKEN` letters, for a token of no letters, for a
    host or name that is none, and where the port is taken.
    """
    _refuse_token(token)
    host = _host_named("--host", host)
    if host not in LOOPBACK and not token:
        raise UsageError(
            f"--host {host} lets other machines read and write this book; leave out --no-token, or "
            "keep to 127.0.0.1"
        )
    if host not in LOOPBACK and len(token or "") < LEAST_TOKEN:
        raise UsageError(
            f"a token of {len(token or '')} letters is guessed in no time, and --host {host} lets "
            f"other machines try; give one of {LEAST_TOKEN} or more, or none, and one is made"
        )
    guard = Guard(host, token, frozenset(_host_named("--name", name) for name in names))
    app = make_app(book, guard, debug=debug)
    with _listen(host, port) as listening:
        # Training on the same machine comes first.
        with contextlib.suppress(OSError, AttributeError):
            os.nice(5)
        # A page waits so long for the thread that reads runs, each time it asks for Python.
        sys.setswitchinterval(0.001)
        everywhere = host in _EVERYWHERE
        shown = socket.gethostname() if everywhere else f"[{host}]" if ":" in host else host
        where = " (on every address of this machine)" if everywhere else ""
        # A book of gigabytes takes a minute to read for the first time.
        threading.Thread(target=app.state.desk.shelf.measured, daemon=True).start()
        say(
            f"http://{shown}:{listening.getsockname()[1]}/"
            + (f"?token={quote(token, safe='')}" if token else "")
            + where
        )
        config = uvicorn.Config(
            app, http=Connection, ws="none", log_level="error", access_log=False, lifespan="off",
            backlog=MOST_CONNECTIONS,  # so many are taken at once, before any can be closed
        )  # fmt: skip
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listening])


def _refuse_token(token: str | None) -> None:
    if token == "":
        raise UsageError("--token is empty, which everybody knows; give one, or leave it out")
    try:
        (token or "").encode()
    except UnicodeEncodeError:
        raise UsageError(
            "the token (--token or TUNEBOOK_UI_TOKEN) is not UTF-8, so no address can hold it; "
            "give one of plain letters and digits"
        ) from None


def _host_named(option: str, given: str) -> str:
    """Write a host as the pages compare it; UsageError for what no browser would ask for."""
    host = given.lower().removesuffix(".")
    with contextlib.suppress(ValueError):
        return str(ipaddress.ip_address(host.removeprefix("[").removesuffix("]")))
    if _HOST.fullmatch(host):
        return host
    try:
        alone = urlsplit(given if "://" in given else f"//{given}").hostname or ""
        alone = alone.removesuffix(".").encode("idna").decode()  # as browsers send it
    except ValueError:  # UnicodeError is one
        alone = ""
    way_out = f"{option} {alone}" if _HOST.fullmatch(alone) else f"{option} lab.example"
    raise UsageError(
        f"{option} {given[:100]!r} is no host name; give the name alone, without http://, port or "
        f"path, as in {way_out}"
    )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With its protocol named, asyncio sends small answers at once instead of 40 ms later.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(MOST_CONNECTIONS)
    except OSError as error:
        listening.close()
        raise UsageError(
            f"cannot listen on {host} port {port} ({error.strerror}); name another with --port, "
            "or 0 for any that is free"
        ) from None
    return listening
