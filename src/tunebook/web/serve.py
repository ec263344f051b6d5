"""Start the server and say where it is."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from urllib.parse import quote

import uvicorn

from tunebook.errors import UsageError
from tunebook.web.app import make_app
from tunebook.web.connections import MOST_CONNECTIONS, Connection
from tunebook.web.guard import LOOPBACK, Guard

_EVERYWHERE = ("0.0.0.0", "::")


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
    of other machines without a token, for a token of no letters, and where the port is taken.
    """
    if token == "":
        raise UsageError("--token is empty, which everybody knows; give one, or leave it out")
    if host not in LOOPBACK and not token:
        raise UsageError(
            f"--host {host} lets other machines read and write this book; leave out --no-token, or "
            "keep to 127.0.0.1"
        )
    guard = Guard(host, token, frozenset(name.lower() for name in names))
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
