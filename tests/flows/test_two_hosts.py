"""One run on two hosts, which are two network namespaces of this machine joined by a cable."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from test_train_flow import STEPS, tunebook, write_run

from tunebook.book.events import EventWriter, read_events
from tunebook.book.liveness import current_state
from tunebook.book.places import RunFolder
from tunebook.errors import BookError, UsageError
from tunebook.workflows.hosts import (
    HOSTS,
    SILENT_SECONDS,
    Hosts,
    HostWatch,
    interface_to,
    make_hosts,
    read_hosts,
)
from tunebook.workflows.join import join_run

ADDRESS = "10.77.0.1"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((2, 0, None), "--nnodes needs --rdzv-endpoint"),
        ((2, 2, "a:1"), "with --nnodes 2 there is 0 to 1"),
        ((2, 0, "a"), "is not HOST:PORT"),
        *[
            ((2, 0, bad), "is not HOST:PORT")
            for bad in ("a:0", "a:\u00b2", "a b:29500", "[]:29500", "a..b:29500", "a:" + "9" * 5000)
        ],
        ((None, 1, None), "go with --nnodes"),
    ],
)
def test_what_is_missing_of_hosts_is_said(
    given: tuple[int | None, int, str | None], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        make_hosts(*given)


def test_hosts_travel_as_words() -> None:
    hosts = make_hosts(2, 1, "10.0.0.1:29500")
    assert hosts is not None
    assert read_hosts(hosts.words()) == hosts == Hosts(2, 1, "10.0.0.1", 29500)
    assert make_hosts(1, 0, None) is None


def watch(hosts: Hosts) -> HostWatch:
    return HostWatch(hosts, silent_seconds=1.0, beat_seconds=0.1)


def test_a_host_that_falls_silent_is_named_by_the_other(unused_port: int) -> None:
    first = watch(Hosts(2, 0, "127.0.0.1", unused_port))
    second = watch(Hosts(2, 1, "127.0.0.1", unused_port))
    time.sleep(1.5)
    assert first.silent() is None
    assert second.silent() is None
    second.close()
    until = time.monotonic() + 12
    while first.silent() is None and time.monotonic() < until:
        time.sleep(0.05)
    assert first.silent() == "host 1 of 2 was not heard of for 1 s"
    first.close()


@pytest.mark.parametrize(
    ("count", "number", "address"),
    [
        (300, 299, "127.0.0.1"),
        (2, 1, "::1"),
        (2, 1, "localhost"),
    ],
)
def test_hosts_of_any_number_and_address_are_heard(
    count: int, number: int, address: str, unused_port: int
) -> None:
    if address == "::1" and not socket.has_dualstack_ipv6():
        pytest.skip("there is no IPv6 here")
    # An address that is none of the first host: what is before it passes the words on.
    first = watch(Hosts(count, 0, "192.0.2.77", unused_port))
    other = watch(Hosts(count, number, address, unused_port))
    until = time.monotonic() + 10
    while not (number in first.came and 0 in other.came) and time.monotonic() < until:
        time.sleep(0.02)
    assert first.came == {number}
    assert other.came == {0}
    other.close()
    first.close()


def test_a_port_that_is_taken_is_named_before_anything_is_trained(unused_port: int) -> None:
    said = f"^port {unused_port + 1} of this host is taken"
    taken = socket.create_server(("127.0.0.1", unused_port + 1))
    with taken, pytest.raises(UsageError, match=said):
        HostWatch(Hosts(2, 0, "127.0.0.1", unused_port))


def test_a_name_that_is_loopback_here_leads_to_the_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def resolve(host: str, port: int, **_: object) -> list[object]:
        address = {"node1": "127.0.1.1"}.get(host, host)
        if ":" in address:
            raise socket.gaierror
        return [(socket.AF_INET, socket.SOCK_DGRAM, 17, "", (address, port))]

    class Probe:
        """A machine with a loopback, and a network that leads everywhere else."""

        def __init__(self, *_: object) -> None:
            self.own = ""

        def __enter__(self) -> Probe:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def connect(self, place: tuple[str, int]) -> None:
            self.own = "127.0.0.1" if place[0].startswith("127.") else "10.9.9.9"

        def getsockname(self) -> tuple[str, int]:
            return self.own, 1

    cards = {"lo": [SimpleNamespace(address="127.0.0.1")]}
    cards["eth7"] = [SimpleNamespace(address="10.9.9.9")]
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket, "socket", Probe)
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: cards)
    assert interface_to("node1") == "eth7"
    assert interface_to("10.0.0.1") == "eth7"
    assert interface_to("127.0.0.1") == "lo"


def supervise(run: RunFolder, hosts: Hosts, arrival: float) -> subprocess.Popen[str]:
    """Start the supervisor of one host; the others have so many seconds to come."""
    code = (
        "import sys; from tunebook.workflows import hosts, ranks; "
        f"hosts.ARRIVAL_SECONDS = {arrival}; sys.exit(ranks.main({str(run.path)!r}, 1))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, HOSTS: hosts.words()},
    )


@pytest.mark.parametrize("number", [0, 1])
def test_a_host_that_never_comes_is_named_and_nobody_waits_longer(
    number: int, book: Path, unused_port: int
) -> None:
    run = RunFolder(book, "both")
    run.path.mkdir(parents=True)
    waiting = supervise(run, Hosts(2, number, "127.0.0.1", unused_port), 2.0)
    try:
        waiting.wait(60)  # its standard input stays open: it dies with that
    finally:
        err = end_one(waiting)
    said = f"host {1 - number} of 2 did not come within 2 s"
    assert said in err
    assert waiting.returncode == 1
    states = read_events(run).states if number == 0 else []
    assert [(s["state"], s["attempt"], said in s["reason"]) for s in states] == (
        [("paused", 1, True)] if number == 0 else []
    )


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_host_that_waits_for_the_others_can_be_stopped(
    number: signal.Signals, code: int, book: Path, unused_port: int
) -> None:
    run = RunFolder(book, "both")
    with EventWriter(run, 1) as events:  # of an attempt that was killed
        events.write("state", {"state": "running"})
    waiting = supervise(run, Hosts(2, 0, "127.0.0.1", unused_port), 600.0)
    try:
        until = time.monotonic() + 60
        while not _listens(unused_port + 1) and time.monotonic() < until:
            time.sleep(0.05)
        waiting.send_signal(number)
        waiting.wait(60)  # its standard input stays open: it dies with that
    finally:
        err = end_one(waiting)
    assert waiting.returncode == code, err
    last = read_events(run).states[-1]
    assert (last["state"], last["attempt"]) == ("paused", 2)
    assert f"stopped by {number.name} while it waited for the other hosts" in last["reason"]
    assert "tunebook resume both" in err


def end_one(process: subprocess.Popen[str]) -> str:
    """End it if it is there, and give what it said."""
    process.kill()
    return process.communicate()[1]


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_supervisor_says_in_a_sentence_that_its_port_is_taken(
    book: Path, unused_port: int
) -> None:
    # Held open: a supervisor ends when its launcher is gone.
    launcher, held = os.pipe()
    words = Hosts(2, 0, "127.0.0.1", unused_port).words()
    with socket.create_server(("127.0.0.1", unused_port + 1)):
        done = subprocess.run(
            [sys.executable, "-m", "tunebook.workflows.ranks", str(book / "runs" / "both"), "1"],
            env={**os.environ, HOSTS: words},
            stdin=launcher,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    os.close(launcher)
    os.close(held)
    assert done.returncode == 2
    assert done.stderr.startswith(f"port {unused_port + 1} of this host is taken")
    assert done.stderr.count("\n") == 1


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def namespaces() -> Iterator[tuple[str, str]]:
    if os.geteuid() or not shutil.which("ip"):
        pytest.skip("network namespaces need root and the command ip")
    names = f"tb{os.getpid()}a", f"tb{os.getpid()}b"
    try:
        for name in names:
            ip("netns", "add", name)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespaces here: {error.stderr.decode().strip()}")
    try:
        ip(
            "link",
            "add",
            "tbv0",
            "netns",
            names[0],
            "type",
            "veth",
            "peer",
            "tbv1",
            "netns",
            names[1],
        )
        for number, name in enumerate(names):
            ip("-n", name, "addr", "add", f"10.77.0.{number + 1}/24", "dev", f"tbv{number}")
            ip("-n", name, "link", "set", f"tbv{number}", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False)


def on_host(names: tuple[str, str], number: int, book: Path, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["ip", "netns", "exec", names[number], sys.executable, "-m", "tunebook", *args,
         "--nnodes", "2", "--node-rank", str(number), "--rdzv-endpoint", f"{ADDRESS}:29500"],
        cwd=book,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )  # fmt: skip


def end(processes: list[subprocess.Popen[str]]) -> None:
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.slow
def test_two_hosts_train_what_one_process_does_and_a_cut_cable_pauses_the_run(
    book: Path, tiny_model: Path, namespaces: tuple[str, str]
) -> None:
    alone = write_run(book, "alone", tiny_model)
    assert tunebook(book, "train", alone).returncode == 0
    write_run(book, "both", tiny_model, devices=2)
    run = RunFolder(book, "both")
    processes = [on_host(namespaces, n, book, "train", "both.yaml") for n in (0, 1)]
    try:
        until = time.monotonic() + 240
        while not (run.exists() and len(read_events(run).steps) >= 5):
            for process in processes:
                assert process.poll() is None, process.communicate()
            assert time.monotonic() < until
            time.sleep(0.05)
        ip("-n", namespaces[1], "link", "set", "tbv1", "down")
        cut = time.monotonic()
        _, err = processes[0].communicate(timeout=90)
        assert time.monotonic() - cut < SILENT_SECONDS + 25
        assert processes[0].returncode == 1
        assert f"host 1 of 2 was not heard of for {SILENT_SECONDS:g} s" in err
        assert "tunebook resume both" in err
        assert current_state(run) == "paused"
        assert processes[1].wait(90) == 1
    finally:
        end(processes)
    ip("-n", namespaces[1], "link", "set", "tbv1", "up")
    processes = [on_host(namespaces, n, book, "resume", "both") for n in (0, 1)]
    try:
        for process in processes:
            _, err = process.communicate(timeout=240)
            assert process.returncode == 0, err
    finally:
        end(processes)
    ours = [record.loss for record in read_events(run).steps]
    theirs = [record.loss for record in read_events(RunFolder(book, "alone")).steps]
    assert len(ours) == STEPS
    assert ours == pytest.approx(theirs, rel=1e-5)


def test_a_host_does_not_wait_for_a_run_that_the_first_will_refuse(
    book: Path, tiny_model: Path
) -> None:
    write_run(book, "both", tiny_model, devices=2)
    run = RunFolder(book, "both")
    run.events.mkdir(parents=True)
    run.resolved_yaml.write_text("name: both\n", encoding="utf-8")
    hosts = Hosts(2, 1, "127.0.0.1", 29500)
    for state, said in (("paused", "say `tunebook resume both`"), ("finished", "nothing is left")):
        with EventWriter(run, 1) as events:
            events.write("state", {"state": state})
        with pytest.raises(BookError, match=said):
            join_run(run, lambda _kind, _payload: None, hosts, devices=2, resumes=False)
