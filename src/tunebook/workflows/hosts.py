"""One run on several hosts: who they are, and whether the others are still there.

torch.distributed.run starts the ranks of each host and waits for no host that is cut off: a sum
over all ranks then waits half an hour. The supervisors therefore say to each other every two
seconds that they live, over a connection of their own on which nothing else is said.
"""

from __future__ import annotations

import errno
import ipaddress
import os
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
_NUMBER_BYTES = 4
# Addresses that are nobody's (RFC 5737 and 3849): the way to them is the default route.
_OUTSIDE = ("192.0.2.1", "2001:db8::1")


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
    host, port = _host_and_port(endpoint)
    if not 0 <= node_rank < nnodes:
        raise UsageError(
            f"--node-rank {node_rank}: with --nnodes {nnodes} there is 0 to {nnodes - 1}"
        )
    return Hosts(nnodes, node_rank, host, port)


def _host_and_port(endpoint: str) -> tuple[str, int]:
    host, _, port = endpoint.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    number = int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else 0
    try:
        known = bool(host.encode("idna")) and not any(c.isspace() or c in "[]" for c in host)
    except UnicodeError:
        known = False
    # The port behind it is used too.
    if not known or not 0 < number < 65535:
        raise UsageError(f"--rdzv-endpoint {endpoint!r} is not HOST:PORT, as in 10.0.0.1:29500")
    return host, number


def read_hosts(words: str) -> Hosts:
    """Read what `Hosts.words` wrote."""
    count, number, host, port = words.split()
    return Hosts(int(count), int(number), host, int(port))


def interface_to(host: str) -> str | None:
    """Name the network interface that leads to a host; None where none is known.

    The loopback interface only for an address of it: then all hosts are this machine. A name that
    means the loopback here, as the own one may in /etc/hosts, means something else on the others.
    """
    literal = _is_loopback(host)
    for goal in (host,) if literal else (host, *_OUTSIDE):
        for own in _own_addresses(goal):
            if _is_loopback(own) and not literal:
                continue
            for name, addresses in psutil.net_if_addrs().items():
                if any(one.address.partition("%")[0] == own for one in addresses):
                    return name
    return None


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _own_addresses(host: str) -> list[str]:
    """Give the addresses of this host that it would speak to another one from."""
    found = []
    with suppress(OSError):
        for family, kind, _, _, place in socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM):
            with suppress(OSError), socket.socket(family, kind) as probe:
                probe.connect(place)  # sends nothing
                found.append(str(probe.getsockname()[0]).partition("%")[0])
    return found


def _listen_at(port: int) -> socket.socket:
    """Listen on all addresses of this host: the one that others know may be none of its own."""
    try:
        if socket.has_dualstack_ipv6():
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        return socket.create_server(("", port))
    except OSError as error:
        why = (
            "is taken by another process"
            if error.errno == errno.EADDRINUSE
            else f"cannot be used ({os.strerror(error.errno or 0)})"
        )
        raise UsageError(
            f"port {port} of this host {why}, and the hosts need it beside {port - 1}; give "
            "--rdzv-endpoint another port, on all of them"
        ) from None


class HostWatch:
    """Tells the other hosts that this one lives, and when one of them was last heard of.

    The first host listens on the port behind the one that the ranks meet at; the others speak to
    it. `silent` gives the number of a host that is not heard of any more, and `came` has those that
    were ever heard of.
    """

    def __init__(
        self,
        hosts: Hosts,
        silent_seconds: float = SILENT_SECONDS,
        beat_seconds: float = _BEAT_SECONDS,
    ) -> None:
        """Raises UsageError where the first host cannot listen."""
        self._hosts, self.limit, self._beat = hosts, silent_seconds, beat_seconds
        others = range(1, hosts.count) if hosts.number == 0 else (0,)
        now = time.monotonic()
        # Until it has spoken once a host has as long as it takes to start.
        self._heard = dict.fromkeys(others, now + ARRIVAL_SECONDS - silent_seconds)
        self.came: set[int] = set()
        self._closed = threading.Event()
        if hosts.number == 0:
            server = _listen_at(hosts.port + 1)
            threading.Thread(target=self._listen, args=(server,), daemon=True).start()
        else:
            threading.Thread(target=self._speak, daemon=True).start()

    def silent(self) -> str | None:
        """Say which host has been silent for too long; None while none has."""
        now = time.monotonic()
        gone = next((n for n, t in self._heard.items() if now - t > self.limit), None)
        if gone is None:
            return None
        if gone in self.came:
            return f"host {gone} of {self._hosts.count} was not heard of for {self.limit:g} s"
        return f"host {gone} of {self._hosts.count} did not come within {ARRIVAL_SECONDS:g} s"

    def _hear(self, number: int) -> None:
        if number in self._heard:
            self._heard[number] = time.monotonic()
            self.came.add(number)

    def close(self) -> None:
        """Say nothing any more."""
        self._closed.set()

    def _listen(self, server: socket.socket) -> None:
        with server:
            server.settimeout(self._beat)
            while not self._closed.is_set():
                try:
                    other, _ = server.accept()
                except TimeoutError:
                    continue
                except OSError:  # the other one is gone again, or too much is open here
                    self._closed.wait(self._beat)
                    continue
                threading.Thread(target=self._answer, args=(other,), daemon=True).start()

    def _answer(self, other: socket.socket) -> None:
        """Hear one host, number by number: each is its own, and is sent back."""
        with other, other.makefile("rb") as words, suppress(OSError):
            other.settimeout(self.limit)
            while (
                not self._closed.is_set()
                and len(said := words.read(_NUMBER_BYTES)) == _NUMBER_BYTES
            ):
                self._hear(int.from_bytes(said, "big"))
                other.sendall(said)

    def _speak(self) -> None:
        place = (self._hosts.host, self._hosts.port + 1)
        own = self._hosts.number.to_bytes(_NUMBER_BYTES, "big")
        while not self._closed.is_set():
            # A name may not be known yet where the first host has just been made.
            with (
                suppress(OSError),
                socket.create_connection(place, timeout=self.limit) as first,
                first.makefile("rb") as words,
            ):
                while not self._closed.is_set():
                    first.sendall(own)
                    if words.read(_NUMBER_BYTES) != own:
                        break
                    self._hear(0)
                    self._closed.wait(self._beat)
            self._closed.wait(self._beat)
