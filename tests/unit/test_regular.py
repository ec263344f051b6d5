from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from tunebook.book.atomic import describe_any_disk
from tunebook.regular import (
    NotReadable,
    is_regular,
    open_regular,
    read_regular,
    read_regular_text,
)

pytestmark = pytest.mark.timeout(20)


def test_a_file_and_a_link_to_one_are_read(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"some bytes")
    (tmp_path / "link").symlink_to(file)
    for path in (file, tmp_path / "link"):
        with open_regular(path) as opened:
            assert opened.read() == b"some bytes"
        assert read_regular(path) == b"some bytes"
        assert is_regular(path)


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "link").symlink_to(pipe)
    for path in (pipe, tmp_path / "link"):
        assert not is_regular(path)
        with pytest.raises(NotReadable) as caught:
            open_regular(path)
        assert caught.value.strerror == "it is a pipe, not a file"
        assert caught.value.filename == str(path)


def test_a_device_and_a_socket_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotReadable, match="a device"):
        read_regular("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        with pytest.raises(OSError):
            open_regular(tmp_path / "socket")


def test_a_folder_and_a_missing_file_raise_what_open_raises(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        open_regular(tmp_path)
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "none")
    assert not is_regular(tmp_path)
    assert not is_regular(tmp_path / "none")


def test_a_file_of_more_than_the_bound_is_refused_and_one_at_the_bound_is_read(
    tmp_path: Path,
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * 2000)
    assert read_regular(file, 2000) == b"x" * 2000
    with pytest.raises(NotReadable) as caught:
        open_regular(file, 1999)
    assert caught.value.strerror == "it has more than 1,999 bytes"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc on this system")
def test_the_bound_holds_for_a_file_that_grew_after_it_was_opened() -> None:
    # A file of /proc says that it has no bytes, and then has some.
    assert read_regular("/proc/self/status", 1_000_000)
    with pytest.raises(NotReadable, match="more than 10 bytes"):
        read_regular("/proc/self/status", 10)


def test_a_refused_file_leaves_no_descriptor_open(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    for _ in range(20):
        with pytest.raises(NotReadable):
            open_regular(tmp_path / "pipe")
    after = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    assert after == before


def test_text_is_read_as_the_text_mode_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"one\r\ntwo\rthree\n\xff\n")
    assert read_regular_text(file) == file.read_text(encoding="utf-8", errors="replace")


def test_what_nobody_expected_to_be_a_pipe_is_told_in_one_sentence(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NotReadable) as caught:
        read_regular(tmp_path / "pipe")
    assert describe_any_disk(caught.value) == (
        f"{tmp_path / 'pipe'} cannot be read: it is a pipe, not a file; take it away, or name "
        "another"
    )
