"""The server as its user starts and ends it, and the small forms of benchmarks/web."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import pytest

from made_runs import make_run

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "benchmarks" / "web"


def ui(book: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tunebook", "ui", *options],
        cwd=book,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def browser() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor()
    )


def run_script(name: str, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / name), *options],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return done.stdout


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_the_server_says_where_it_is_and_ends_without_a_word(
    book: Path, ending: signal.Signals
) -> None:
    make_run(book, "run_1")
    server = ui(book, "--port", "0")
    assert server.stdout is not None
    address = server.stdout.readline().strip()
    with browser().open(address, timeout=30) as answer:
        assert answer.url == address.partition("?")[0]
        assert b"run_1" in answer.read()
    with pytest.raises(urllib.error.HTTPError, match="401"):
        browser().open(address.partition("?")[0], timeout=30)
    server.send_signal(ending)
    said, complained = server.communicate(timeout=30)
    assert (said, complained) == ("", "")
    assert server.returncode in ((0,) if ending == signal.SIGINT else (0, -ending))


def test_a_browser_that_was_let_in_stays_so_when_the_server_is_started_again(book: Path) -> None:
    visitor, addresses = browser(), []
    for asked in ("?", ""):
        with ui(book, "--port", "0") as server:
            assert server.stdout is not None
            addresses.append(server.stdout.readline().strip())
            base, _, token = addresses[-1].partition("?")
            with visitor.open(base + f"?{token}" * bool(asked), timeout=30) as answer:
                assert answer.status == 200
            server.terminate()
    assert addresses[0].partition("?")[2] == addresses[1].partition("?")[2]


def test_without_a_token_one_line_warns(book: Path) -> None:
    server = ui(book, "--port", "0", "--no-token")
    assert server.stdout is not None
    with browser().open(server.stdout.readline().strip(), timeout=30) as answer:
        assert answer.status == 200
    server.terminate()
    _, complained = server.communicate(timeout=30)
    assert complained.startswith("note: without a token every account of this machine can read")
    assert complained.count("\n") == 1


def test_what_keeps_a_server_from_starting_is_one_sentence(book: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for folder, options, expected in (
            (book, ("--port", port), "name another with --port"),
            (book, ("--port", "70000"), "--port"),
            (book, ("--host", "192.0.2.1", "--token", "x" * 16), "cannot listen on 192.0.2.1"),
            (book, ("--host", "192.0.2.1", "--token", "x" * 15), "is guessed in no time"),
            (book, ("--host", "0.0.0.0", "--no-token"), "lets other machines read and write"),
            (book, ("--token", "x", "--no-token"), "exclude each other"),
            (tmp_path, (), "no book here"),
        ):
            _, complained = (server := ui(folder, *options)).communicate(timeout=60)
            assert server.returncode == 2, complained
            assert complained.count("\n") == 1
            assert expected in complained


def test_a_large_book_is_quick_and_every_spike_is_sent() -> None:
    said = run_script("pages.py", "--runs", "6", "--steps", "3000")
    assert re.search(r"^restarted +overlay of 6 runs", said, re.MULTILINE)


@pytest.mark.slow
def test_eight_writers_and_four_readers_lose_nothing() -> None:
    said = run_script("soak.py", "--seconds", "10")
    count = {what: int(n) for n, what in re.findall(r"^ *(\d+)  (\w+)", said, re.MULTILINE)}
    assert count["lost"] == 0
    assert min(count["steps"], count["notes"], count["pages"]) > 0


@pytest.mark.slow
def test_training_beside_the_server_is_measured() -> None:
    assert "ratio: median" in run_script("beside_training.py", "--rounds", "1", "--steps", "10")


@pytest.mark.slow
def test_what_pages_cost_is_measured() -> None:
    said = run_script("cost.py", "--runs", "4", "--times", "1")
    assert re.search(r"^/sweep .* \d", said, re.MULTILINE)
    assert re.search(r"^beside a writer: \d+\.\d of a processor each", said, re.MULTILINE)


def test_a_wheel_holds_every_template_and_every_file_that_pages_load(tmp_path: Path) -> None:
    source = tmp_path / "source"  # building leaves files of its own beside the source
    shutil.copytree(ROOT / "src" / "tunebook", source / "src" / "tunebook")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index",
         "--quiet", "--wheel-dir", str(tmp_path), str(source)],
        capture_output=True, text=True, check=False, env={**os.environ, "PIP_NO_INPUT": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    (wheel,) = tmp_path.glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    web = ROOT / "src" / "tunebook" / "web"
    ours = [p for folder in ("static", "templates") for p in (web / folder).rglob("*")]
    assert len(ours) > 20
    for path in (path for path in ours if path.is_file()):
        assert f"tunebook/web/{path.relative_to(web)}" in inside
