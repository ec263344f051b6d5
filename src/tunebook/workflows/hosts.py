"""One run on several hosts: who they are, and whether the others are still there.

torch.distributed.run starts the ranks of each host and waits for no host that is cut off: a sum
over all ranks then waits half an hour. The supervisors therefore say to each other every two
seconds that they live, over a connection of their own on which nothing else is said.
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass

import psutil

from tunebook.errors import UsageError

HOSTS = "TUNEBOOK_HOSTS"
"""Names the variable in which a supervisor finds `Hosts.words`."""

SILENT_SECONDS = 20.0
"""A host that has said nothing for so long is given up."""

ARRIVAL_SECONDS = 600.0
"""How long the hosts wait for each other at the start."""

_BEAT_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Hosts:
    """How many hosts train a run, which of them this is, and where the first one is met."""

    count: int
    number: int
    host: str
    port: int

    def words(self) -> str:
        """Write it as `read_hosts` takes it."""
        return f"{self.count} {self.number} {self.host} {self.port}"


def make_hosts(nnodes: int | None, node_rank: int, endpoint: str | None) -> Hosts | None:
    """Check what was said of hosts; None for one host. UsageError says what is missing."""
    if nnodes is None or nnodes == 1:
        if endpoint is not None or node_rank:
            raise UsageError("--node-rank and --rdzv-endpoint go with --nnodes of at least 2")
        return None
    if endpoint is None:
        raise UsageError("--nnodes needs --rdzv-endpoint HOST:PORT, an address of the first host")
    host, colon, port = endpoint.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65535:
        raise UsageError(f"--rdzv-endpoint {endpoint!r} is not HOST:PORT, as in 10.0.0.1:29500")
    if not 0 <= node_rank < nnodes:
        raise UsageError(
            f"--node-rank {node_rank}: with --nnodes {nnodes} there is 0 to {nnodes - 1}"
        )
    return Hosts(nnodes, node_rank, host.strip("[]"), int(port))


def read_hosts(words: str) -> Hosts:
    """Read what `Hosts.words` wrote."""
    count, number, host, port = words.split()
    return Hosts(int(count), int(number), host, int(port))


def interface_to(host: str) -> str | None:
    """Name the network interface that leads to a host; None where none is known."""
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, 9))  # sends nothing
        own = probe.getsockname()[0]
        for name, addresses in psutil.net_if_addrs().items():
            if any(one.address == own for one in addresses):
                return name
    return None


class HostWatch:
    """Tells the other hosts that this one lives, and when one of them was last heard of.

    The first host listens on the port behind the one that the ranks meet at; the others speak to
    it. `silent` gives the number of a host that is not heard of any more.
    """

    def __init__(self, hosts: Hosts, silent_seconds: float = SILENT_SECONDS) -> None:
        self._hosts, self.limit = hosts, silent_seconds
        others = range(1, hosts.count) if hosts.number == 0 else (0,)
        now = time.monotonic()
        # Until it has spoken once a host has as long as it takes to start.
        self._heard = dict.fromkeys(others, now + ARRIVAL_SECONDS - silent_seconds)
        self._came: set[int] = set()
        self._closed = threading.Event()
        work = self._listen if hosts.number == 0 else self._speak
        threading.Thread(target=work, daemon=True).start()

    def silent(self) -> str | None:
        """Say which host has been silent for too long; None while none has."""
        now = time.monotonic()
        gone = next((n for n, t in self._heard.items() if now - t > self.limit), None)
        if gone is None:
            return None
        if gone in self._came:
            return f"host {gone} of {self._hosts.count} was not heard of for {self.limit:g} s"
        return f"host {gone} of {self._hosts.count} did not come within {ARRIVAL_SECONDS:g} s"

    def _hear(self, number: int) -> None:
        if number in self._heard:
            self._heard[number] = time.monotonic()
            self._came.add(number)

    def close(self) -> None:
        """Say nothing any more."""
        self._closed.set()

    def _listen(self) -> None:
        family = socket.AF_INET6 if ":" in self._hosts.host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind((self._hosts.host, self._hosts.port + 1))
            server.listen(self._hosts.count)
            server.settimeout(_BEAT_SECONDS)
            while not self._closed.is_set():
                with suppress(TimeoutError):
                    other, _ = server.accept()
                    threading.Thread(target=self._answer, args=(other,), daemon=True).start()

    def _answer(self, other: socket.socket) -> None:
        """Hear one host, byte by byte: each is its number, and is sent back."""
        with other, suppress(OSError):
            other.settimeout(self.limit)
            while not self._closed.is_set() and (said := other.recv(1)):
                self._hear(said[0])
                other.sendall(said)

    def _speak(self) -> None:
        place = (self._hosts.host, self._hosts.port + 1)
        while not self._closed.is_set():
            with suppress(OSError), socket.create_connection(place, timeout=self.limit) as first:
                first.settimeout(self.limit)
                while not self._closed.is_set():
                    first.sendall(bytes([self._hosts.number]))
                    if not first.recv(1):
                        break
                    self._hear(0)
                    self._closed.wait(_BEAT_SECONDS)
            self._closed.wait(_BEAT_SECONDS)
