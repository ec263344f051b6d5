"""What each of several hosts makes of a resume: its share of the devices that were asked for."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from test_changes import begin, edit, write_file

from tunebook.book.places import RunFolder
from tunebook.errors import BookError, RunFileError, UsageError
from tunebook.recipe.load import read_resolved
from tunebook.workflows import join, launch
from tunebook.workflows import resume as module
from tunebook.workflows.hosts import Hosts
from tunebook.workflows.resume import resume

FIRST, SECOND = (Hosts(2, n, "127.0.0.1", 29500) for n in (0, 1))


@pytest.fixture
def shares(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The ranks that every host has started."""
    found: list[int] = []

    def train_in_child(
        run: RunFolder, _watch: object, hosts: Hosts, devices: int | None = None
    ) -> None:
        found.append(int(launch._command(run, hosts, devices)[-1]))

    def train_run(run: RunFolder, watch: object, hosts: Hosts) -> SimpleNamespace:
        train_in_child(run, watch, hosts)
        return SimpleNamespace()

    monkeypatch.setattr(join, "train_in_child", train_in_child)
    monkeypatch.setattr(module, "train_run", train_run)
    return found


@pytest.mark.parametrize("order", [(FIRST, SECOND), (SECOND, FIRST)])
def test_every_host_starts_its_share_of_the_devices_that_the_command_says(
    order: tuple[Hosts, Hosts], book: Path, shares: list[int]
) -> None:
    run = begin(book, write_file(book))  # on one device
    for hosts in order:  # the second one comes before or after the first has written it down
        resume("r", ["devices=4"], book=book, hosts=hosts)
    assert shares == [2, 2]
    assert read_resolved(run.resolved_yaml.read_text())[0].devices == 4


@pytest.mark.parametrize("order", [(FIRST, SECOND), (SECOND, FIRST)])
def test_every_host_starts_its_share_of_the_devices_that_the_run_file_says_by_now(
    order: tuple[Hosts, Hosts], book: Path, shares: list[int]
) -> None:
    file = write_file(book)
    begin(book, file)
    edit(file, "devices", 4)
    for hosts in order:
        resume("r", book=book, hosts=hosts)
    assert shares == [2, 2]


@pytest.mark.parametrize("hosts", [FIRST, SECOND])
def test_devices_that_hosts_cannot_share_are_refused_though_the_old_ones_could(
    hosts: Hosts, book: Path, shares: list[int]
) -> None:
    run = begin(book, write_file(book), "devices=2")
    for bad in (1, 3):
        with pytest.raises(RunFileError, match=f"`devices: {bad}` cannot be shared by 2 hosts"):
            resume("r", [f"devices={bad}"], book=book, hosts=hosts)
    assert shares == []
    assert read_resolved(run.resolved_yaml.read_text())[0].devices == 2


@pytest.mark.parametrize("hosts", [FIRST, SECOND])
def test_what_the_first_host_refuses_is_refused_by_all(
    hosts: Hosts, book: Path, shares: list[int]
) -> None:
    file = write_file(book)
    with pytest.raises(BookError, match="was never started"):
        resume("r", book=_with_new_run(book), hosts=hosts)
    begin(book, file, "devices=2")
    with pytest.raises(UsageError, match="seed=3 would change run r"):
        resume("r", ["seed=3"], book=book, hosts=hosts)
    with pytest.raises(UsageError, match="--fork other begins on one host; leave --nnodes out"):
        resume("r", book=book, fork="other", hosts=hosts)
    assert shares == []


def _with_new_run(book: Path) -> Path:
    folder = RunFolder(book, "r").path
    folder.mkdir(parents=True)
    (folder / "run.yaml").write_text("name: r\n", encoding="utf-8")
    return book
