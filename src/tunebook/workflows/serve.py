"""What `tunebook serve` does: a run's weights behind a server of others, which ends with this."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from tunebook.book.atomic import storage_errors
from tunebook.book.writing import open_to_write
from tunebook.errors import TunebookError, UsageError
from tunebook.models.load import choose_device
from tunebook.regular import read_regular_text
from tunebook.workflows import tied
from tunebook.workflows.served import Served, in_use, release_to_serve

Engine = Literal["transformers", "vllm"]
Say = Callable[[str], None]

LOCAL = ("127.0.0.1", "localhost", "::1")
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
_POLL_SECONDS = 0.2
_SHOWN = 300  # characters of what a server said last


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers: where, with what, and for how many tokens."""

    served: Served
    engine: Engine
    device: str
    host: str
    port: int

    @property
    def base_url(self) -> str:
        """The address that clients of OpenAI's protocol take, as this machine reaches it."""
        host = _EVERYWHERE.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/v1"


def serve(
    name: str,
    book: Path,
    *,
    weights: str = "final",
    host: str = "127.0.0.1",
    port: int = 8000,
    engine: str = "auto",
    device: str | None = None,
    say: Say = lambda _text: None,
    ready: Callable[[Server], None] = lambda _server: None,
) -> None:
    """Serve weights of a run until Ctrl-C; `ready` is called once the server answers.

    The server dies with this process. Raises UsageError for an engine, a device or a port that
    cannot be had, as `release` for weights, and TunebookError where the server ends by itself.
    """
    device = choose_device(device or "auto")
    chosen = choose_engine(engine, device)
    port = _free_port(host, port)
    if host not in LOCAL:
        say(f"--host {host}: anyone who reaches port {port} can use the model; it asks for no key")
    served = release_to_serve(name, book, weights, say)
    server = Server(served, chosen, device, host, port)
    log = served.parent / f"server-{port}.log"
    with in_use(served), _running(server, log) as process:
        say(f"starting {chosen}; its log is {log}")
        _wait_until_it_answers(server, process, log)
        ready(server)
        with contextlib.suppress(KeyboardInterrupt):
            code = process.wait()
            raise TunebookError(f"the server ended by itself with {code}: {_last_words(log)}")


def choose_engine(wanted: str, device: str) -> Engine:
    """Choose who serves; auto takes vllm where it is installed and there is a CUDA device.

    Raises UsageError for what is not installed, and for a device that vllm does not choose itself.
    """
    has_vllm = shutil.which("vllm") is not None
    if wanted == "vllm" and not has_vllm:
        raise UsageError(
            "--engine vllm: there is no command vllm here; `pip install vllm`, or say "
            "--engine transformers"
        )
    if wanted == "vllm" or (wanted == "auto" and has_vllm and device == "cuda"):
        return "vllm"
    from transformers.utils.import_utils import is_serve_available

    if not is_serve_available() or importlib.util.find_spec("accelerate") is None:
        raise UsageError("the server of transformers needs more; pip install 'tunebook[serve]'")
    return "transformers"


def command_of(server: Server) -> list[str]:
    """Give the command that starts a server, in the folder above the weights."""
    where = ["--host", server.host, "--port", str(server.port)]
    if server.engine == "vllm":
        return ["vllm", "serve", server.served.name, *where]
    module = "transformers.cli.transformers"
    options = [*where, "--device", server.device]
    return [sys.executable, "-P", "-m", module, "serve", server.served.name, *options]


def _environment(server: Server) -> Mapping[str, str]:
    """Keep a server from the network, from telling which models are here, and from others' code."""
    own = {
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_CACHE": str(server.served.hub),
        "PYTHONUNBUFFERED": "1",
        "PYTHONSAFEPATH": "1",
    }
    return {**os.environ, **own}


@contextmanager
def _running(server: Server, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server; on the way out of the block, or when this process dies, it is ended."""
    # By its path: what is served with may be another Python, and gets no PYTHONPATH of ours.
    command = [sys.executable, "-P", str(Path(tied.__file__)), *command_of(server)]
    with (
        storage_errors(f"write {log}", log.parent),
        open_to_write(server.served.book, log, "anew") as out,
    ):
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=out,
            cwd=server.served.parent,
            env=_environment(server),
            start_new_session=True,  # a terminal's Ctrl-C reaches this process only
        )
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(2 * tied.PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()


def _wait_until_it_answers(server: Server, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait for as long as loading takes; TunebookError when the server ends before it answers."""
    url = server.base_url.removesuffix("/v1") + "/health"
    asking = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while True:
        code = process.poll()
        if code is not None:
            raise TunebookError(
                f"{server.engine} ended with {code} before it answered: {_last_words(log)}"
            )
        with contextlib.suppress(OSError, urllib.error.URLError):
            # Whoever took the port in the meantime may answer as well.
            if _listens(process.pid, server.port) and asking.open(url, timeout=5).status == 200:
                return
        time.sleep(_POLL_SECONDS)


def _listens(pid: int, port: int) -> bool:
    """Tell whether a process or one that it started listens on a port."""
    try:
        parent = psutil.Process(pid)
        family = [parent, *parent.children(recursive=True)]
    except psutil.Error:
        return False
    for process in family:
        with contextlib.suppress(psutil.Error):
            for one in process.net_connections(kind="tcp"):
                if one.status == psutil.CONN_LISTEN and one.laddr.port == port:
                    return True
    return False


def _last_words(log: Path) -> str:
    try:
        lines = read_regular_text(log).split("\n")
    except OSError:
        lines = []
    said = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
    return f"{said[:_SHOWN]} (all it said is in {log})"


def _free_port(host: str, port: int) -> int:
    """Find out whether a port can be had, or which (0); UsageError where it cannot."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
        except OSError as error:
            raise UsageError(
                f"cannot listen on {host} port {port} ({error.strerror}); name another with "
                "--port, or 0 for any that is free"
            ) from None
        return int(trial.getsockname()[1])
