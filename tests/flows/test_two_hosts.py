"""One run on two hosts, which are two network namespaces of this machine joined by a cable."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_train_flow import STEPS, tunebook, write_run

from tunebook.book.events import EventWriter, read_events
from tunebook.book.liveness import current_state
from tunebook.book.places import RunFolder
from tunebook.errors import BookError, UsageError
from tunebook.workflows.hosts import SILENT_SECONDS, Hosts, HostWatch, make_hosts, read_hosts
from tunebook.workflows.join import join_run

ADDRESS = "10.77.0.1"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((2, 0, None), "--nnodes needs --rdzv-endpoint"),
        ((2, 2, "a:1"), "with --nnodes 2 there is 0 to 1"),
        ((2, 0, "a"), "is not HOST:PORT"),
        ((2, 0, "a:0"), "is not HOST:PORT"),
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


def test_a_host_that_falls_silent_is_named_by_the_other(unused_port: int) -> None:
    first = HostWatch(Hosts(2, 0, "127.0.0.1", unused_port), silent_seconds=3.0)
    second = HostWatch(Hosts(2, 1, "127.0.0.1", unused_port), silent_seconds=3.0)
    time.sleep(5.0)
    assert first.silent() is None
    assert second.silent() is None
    second.close()
    until = time.monotonic() + 12
    while first.silent() is None and time.monotonic() < until:
        time.sleep(0.1)
    assert first.silent() == "host 1 of 2 was not heard of for 3 s"
    first.close()


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        port = int(one.getsockname()[1])
        two.bind(("127.0.0.1", port + 1))
        return port


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
            join_run(run, lambda _kind, _payload: None, hosts, resumes=False)
