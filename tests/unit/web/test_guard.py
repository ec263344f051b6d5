"""Other sites and other machines get nothing and change nothing."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from fastapi.testclient import TestClient

from made_runs import make_run
from tunebook.errors import UsageError
from tunebook.web import app as app_module
from tunebook.web.app import make_app
from tunebook.web.guard import Guard
from tunebook.web.serve import serve


def client_of(book: Path, guard: Guard | None = None, base: str = "http://127.0.0.1") -> TestClient:
    return TestClient(make_app(book, guard), base_url=base, follow_redirects=False)


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", ""])
def test_a_name_that_is_not_of_this_machine_is_not_answered(book: Path, host: str) -> None:
    answer = client_of(book).get("/", headers={"host": host})
    assert answer.status_code == 400
    assert "--name" in answer.text


@pytest.mark.parametrize("host", ["127.0.0.1:7878", "localhost:7878", "[::1]:7878"])
def test_names_of_this_machine_are_answered(book: Path, host: str) -> None:
    make_run(book, "run_1")
    assert "run_1" in client_of(book).get("/", headers={"host": host}).text


def test_with_a_token_nothing_is_shown_without_it(book: Path) -> None:
    make_run(book, "run_1")
    guard = Guard("0.0.0.0", "sesame", frozenset({"machine.example"}))
    client = client_of(book, guard, "http://machine.example")
    assert client.get("/").status_code == 401
    assert client.get("/?token=wrong").status_code == 401
    assert client.get("/", headers={"authorization": "Bearer sesame"}).status_code == 200
    moved = client.get("/?token=sesame&sort=name")
    assert moved.status_code == 303
    assert moved.headers["location"] == "/?sort=name"
    assert "run_1" in client.get("/").text  # by the cookie


def test_every_answer_forbids_scripts_of_others(book: Path) -> None:
    policy = client_of(book).get("/").headers["content-security-policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy


def test_what_writes_needs_the_secret_of_this_server_and_a_page_of_its_own(book: Path) -> None:
    guard = Guard()
    client = client_of(book, guard)
    ours = {"x-csrf-token": guard.csrf}
    assert client.post("/nowhere", headers=ours).status_code == 404
    assert client.post("/nowhere", data={"csrf": guard.csrf}).status_code == 404
    for headers in (
        {},
        {"x-csrf-token": "guessed"},
        {**ours, "origin": "http://evil.example"},
        {**ours, "sec-fetch-site": "cross-site"},
        {**ours, "origin": "null"},
    ):
        answer = client.post("/nowhere", headers=headers)
        assert answer.status_code == 403
        assert "copy what you wrote, reload" in answer.text


def test_files_of_others_are_just_those_that_were_looked_at() -> None:
    vendor = Path(app_module.__file__).parent / "static" / "vendor"
    said = dict(
        re.findall(
            r"^\| `([^`]+)` \| `([0-9a-f]{64})` \|$", (vendor / "README.md").read_text(), re.M
        )
    )
    files = {path for path in vendor.iterdir() if path.name != "README.md"}
    assert said == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("host", ["[", "[::1", "a]b"])
def test_a_host_that_is_none_is_refused_in_a_sentence(book: Path, host: str) -> None:
    answer = client_of(book).get("/", headers={"host": host})
    assert answer.status_code == 400
    assert "does not answer" in answer.text


def test_an_origin_that_is_no_address_writes_nothing(book: Path) -> None:
    guard = Guard()
    headers = {"x-csrf-token": guard.csrf, "origin": "http://["}
    assert client_of(book, guard).post("/nowhere", headers=headers).status_code == 403


def test_a_token_of_no_letters_opens_nothing(book: Path) -> None:
    with pytest.raises(ValueError, match="empty"):
        Guard(token="")
    with pytest.raises(UsageError, match="empty"):
        serve(book, "127.0.0.1", 0, "", lambda _address: None)


@pytest.mark.parametrize(
    ("mode", "dest", "status"),
    [
        ("navigate", "document", 200),
        ("navigate", "iframe", 403),
        ("no-cors", "image", 403),
        ("cors", "empty", 403),
    ],
)
def test_other_sites_may_link_here_and_no_more(
    book: Path, mode: str, dest: str, status: int
) -> None:
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": mode, "sec-fetch-dest": dest}
    assert client_of(book).get("/", headers=headers).status_code == status


def test_a_link_in_the_folder_of_a_run_leads_nowhere(book: Path, tmp_path: Path) -> None:
    run = make_run(book, "run_1")
    (tmp_path / "secret").write_text("s3cr3t")
    run.train_log.symlink_to(tmp_path / "secret")
    answer = client_of(book).get("/runs/run_1/file/train.log")
    assert answer.status_code == 404
    assert "s3cr3t" not in answer.text


def test_a_filter_of_many_spaces_is_read_at_once(book: Path) -> None:
    make_run(book, "run_1")
    began = time.process_time()
    answer = client_of(book).get("/", params={"filter": "a=b" + " " * 50_000 + "x"})
    assert answer.status_code == 400
    assert time.process_time() - began < 2


def test_an_address_that_is_every_address_is_printed_as_one_that_opens(
    book: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("uvicorn.Server.run", lambda _server, sockets: None)
    monkeypatch.setattr("os.nice", lambda _by: 0)
    monkeypatch.setattr("socket.gethostname", lambda: "trainer")
    said: list[str] = []
    serve(book, "0.0.0.0", 0, "sesame" * 3, said.append)
    assert re.fullmatch(
        r"http://trainer:\d+/\?token=(sesame){3} \(on every address of this machine\)",
        said[0],
    )


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"content-type": "multipart/form-data"}, b"zz"),
        ({"content-type": "multipart/form-data; boundary=a"}, b"--a\r\nx: y\r\n\r\n" * 9),
        ({"content-type": "multipart/form-data; boundary=a"}, b"a=b&" * 2000),
        ({"content-type": "application/x-www-form-urlencoded"}, b"\xff=\xff&csrf=\xff;;==&" * 900),
    ],
)
def test_a_form_that_is_none_is_refused_in_a_sentence(
    book: Path, headers: dict[str, str], body: bytes
) -> None:
    client = client_of(book)
    for method in ("POST", "PUT"):
        answer = client.request(method, "/", headers=headers, content=body)
        assert answer.status_code == 403
        assert "reload the page" in answer.text


def test_what_is_longer_than_any_form_is_refused_before_it_is_read(book: Path) -> None:
    guard = Guard()
    client = client_of(book, guard)
    make_run(book, "run_1")
    for headers in ({}, {"x-csrf-token": guard.csrf}):
        long = {**headers, "content-length": str(1 << 30)}
        answer = client.post("/runs/run_1/note", headers=long, content=b"")
        assert (answer.status_code, "shorter" in answer.text) == (413, True)
        chunked = {**headers, "transfer-encoding": "chunked"}
        answer = client.post("/runs/run_1/note", headers=chunked, content=b"text=x")
        assert (answer.status_code, "length" in answer.text) == (411, True)
    form = {"text": "x" * 100_000, "csrf": guard.csrf}
    assert client.post("/runs/run_1/note", data=form).status_code < 400


@pytest.mark.parametrize("knows", [False, True])
def test_who_hangs_up_within_a_form_is_no_bug(
    book: Path, knows: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(book, "run_1")
    guard = Guard()
    headers = {"host": "127.0.0.1", "content-type": "application/x-www-form-urlencoded"}
    headers |= {"content-length": "99"} | ({"x-csrf-token": guard.csrf} if knows else {})
    scope = {
        "type": "http", "method": "POST", "path": "/runs/run_1/note", "raw_path": b"",
        "scheme": "http", "query_string": b"",
        "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
        "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 9), "http_version": "1.1",
    }  # fmt: skip
    left = [
        {"type": "http.request", "body": b"text=a", "more_body": True},
        {"type": "http.disconnect"},
    ]
    sent: list[Any] = []

    async def receive() -> Any:
        return left.pop(0) if left else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(make_app(book, guard)(scope, receive, send))
    assert "bug" not in capsys.readouterr().err
    assert not any(message.get("status", 0) >= 500 for message in sent)


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("Lab.example.", "lab.example:8443"),
        ("lab.example", "LAB.example.:8443"),
        ("[2001:DB8::1]", "[2001:db8::1]:80"),
        ("book_1", "book_1:80"),
    ],
)
def test_a_name_is_the_same_in_capitals_and_with_its_last_dot(
    book: Path, monkeypatch: pytest.MonkeyPatch, name: str, asked: str
) -> None:
    apps: list[Any] = []
    monkeypatch.setattr("tunebook.web.serve.uvicorn.Config", lambda app, **_: apps.append(app))
    monkeypatch.setattr("tunebook.web.serve.uvicorn.Server", lambda _config: Mock())
    monkeypatch.setattr("os.nice", lambda _by: 0)
    serve(book, "127.0.0.1", 0, None, lambda _address: None, names=[name])
    assert TestClient(apps[0]).get("/", headers={"host": asked}).status_code == 200


@pytest.mark.parametrize(
    ("name", "way_out"),
    [
        ("lab.example:8443", "--name lab.example"),
        ("https://lab.example", "--name lab.example"),
        ("https://Lab.example:1/x", "--name lab.example"),
        ("bücher.example", "--name xn--bcher-kva.example"),
        ("*.example", "--name lab.example"),
        ("lab..example", "--name lab.example"),
        ("", "--name lab.example"),
        (".", "--name lab.example"),
        ("a b", "--name lab.example"),
        ("http://[", "--name lab.example"),
        ("a" * 64, "--name lab.example"),
    ],
)
def test_a_name_that_no_browser_would_ask_for_is_refused_with_the_one_that_was_meant(
    book: Path, name: str, way_out: str
) -> None:
    with pytest.raises(UsageError, match=f"is no host name.* as in {re.escape(way_out)}$"):
        serve(book, "127.0.0.1", 0, None, lambda _address: None, names=[name])


@pytest.mark.parametrize("host", ["", "a..b", "a\udcffb", "http://127.0.0.1", "*"])
def test_an_address_to_listen_on_that_is_none_is_refused_in_a_sentence(
    book: Path, host: str
) -> None:
    with pytest.raises(UsageError, match=r"^--host .* is no host name"):
        serve(book, host, 0, "sesame", lambda _address: None)


def test_a_token_that_is_no_text_is_refused_without_being_repeated(book: Path) -> None:
    with pytest.raises(UsageError, match="not UTF-8") as refused:
        serve(book, "127.0.0.1", 0, "a\udcffb", lambda _address: None)
    assert "\udcff" not in str(refused.value)
