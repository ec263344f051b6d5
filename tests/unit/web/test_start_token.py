"""Who has an account on this machine reads nothing of a book without its token."""

from __future__ import annotations

import errno
import multiprocessing
import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from made_runs import make_run
from tunebook.book.places import make_hidden_dir
from tunebook.web.app import make_app
from tunebook.web.entry import cookie_of
from tunebook.web.guard import Guard
from tunebook.web.offline import offline_page
from tunebook.web.start_token import start_token, token_file

TOKEN = "sesame-sesame"


@pytest.fixture
def client(book: Path) -> TestClient:
    make_run(book, "run_1")
    return TestClient(
        make_app(book, Guard(token=TOKEN)), base_url="http://127.0.0.1", follow_redirects=False
    )


def test_a_token_stays_the_same_and_is_its_owners_alone(book: Path) -> None:
    token, said = start_token(book)
    assert (start_token(book), said, len(token) >= 40) == ((token, ""), "", True)
    assert stat.S_IMODE(token_file(book).stat().st_mode) == 0o600


def test_a_token_is_left_out_by_git_also_where_its_folder_was_deleted(book: Path) -> None:
    for path in (book / ".tunebook").iterdir():
        path.unlink()
    (book / ".tunebook").rmdir()
    subprocess.run(["git", "init", "-q", str(book)], check=True)
    start_token(book)
    kept = str(token_file(book).relative_to(book))
    asked = ["git", "-C", str(book), "check-ignore", "-q", kept]
    assert subprocess.run(asked, check=False).returncode == 0


def test_a_token_that_others_may_know_is_made_anew_and_said(book: Path, tmp_path: Path) -> None:
    path = token_file(book)

    def readable() -> None:
        path.chmod(0o640)

    def copied() -> None:  # as a stranger's book brings it, or a copy of one's own
        content = path.read_bytes()
        path.rename(tmp_path / "kept")  # so that its number is not given again
        path.write_bytes(content)
        path.chmod(0o600)

    def linked() -> None:
        os.replace(path, tmp_path / "far")
        path.symlink_to(tmp_path / "far")

    def piped() -> None:
        path.unlink()
        os.mkfifo(path, 0o600)

    def filled() -> None:
        path.write_text("x" * 1000)

    for spoil in (readable, copied, linked, piped, filled):
        token, _ = start_token(book)
        spoil()
        other, said = start_token(book)
        assert other != token
        assert "may be known to others" in said
        assert start_token(book) == (other, "")
    assert list(path.parent.glob(".ui-token*")) == []


def test_where_none_can_be_kept_there_is_one_for_this_start(
    book: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tunebook.web.start_token.os.link", refuse)
    token, said = start_token(book)
    assert len(token) >= 40
    assert "(Permission denied), so it is for this start only" in said
    assert [p.name for p in (book / ".tunebook").iterdir() if "ui-token" in p.name] == []


def test_accounts_that_share_a_book_have_a_token_each(
    book: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account, made_by = 1001, dict[int, int]()
    monkeypatch.setattr("os.geteuid", lambda: account)
    monkeypatch.setattr(  # whoever looks at a file first has made it
        "tunebook.web.start_token._is_mine_alone",
        lambda about: made_by.setdefault(about.st_ino, account) == account,
    )
    first, account = start_token(book), 1002
    second, account = start_token(book), 1001
    assert start_token(book) == first
    account = 1002
    assert start_token(book) == second
    assert first != second
    assert first[1] + second[1] == ""


def _start_at_once(book: Path, waiting: Any, told: Any) -> None:
    waiting.wait()
    told.put(start_token(book)[0])


@pytest.mark.parametrize("spoiled", [False, True])
def test_starts_at_once_have_one_token_and_keep_it(book: Path, spoiled: bool) -> None:
    context = multiprocessing.get_context("fork")
    for _ in range(5):
        token_file(book).unlink(missing_ok=True)
        if spoiled:
            token_file(book).write_text("x")
        waiting, told = context.Barrier(4), context.Queue()
        starts = [
            context.Process(target=_start_at_once, args=(book, waiting, told)) for _ in range(4)
        ]
        for start in starts:
            start.start()
        tokens = {told.get(timeout=60) for _ in starts}
        for start in starts:
            start.join(60)
        assert tokens == {start_token(book)[0]}


def test_a_disk_on_which_files_have_one_name_only_keeps_a_token_too(
    book: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("tunebook.web.start_token.os.link", refuse)
    token, said = start_token(book)
    assert (start_token(book), said) == ((token, ""), "")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_full_or_read_only_disk_gives_a_token_for_this_start_and_says_so(
    book: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_hidden_dir(book)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("tunebook.web.start_token.tempfile.mkstemp", refuse)
    token, said = start_token(book)
    assert len(token) >= 40
    assert f"({os.strerror(number)}), so it is for this start only" in said
    assert not token_file(book).exists()


def test_the_token_is_taken_once_and_stands_in_no_address_page_or_cookie(
    client: TestClient,
) -> None:
    moved = client.get("/lineage", params={"token": TOKEN, "run": "run_1"})
    assert (moved.status_code, moved.headers["location"]) == (303, "/lineage?run=run_1")
    assert moved.headers["referrer-policy"] == "no-referrer"
    cookie = moved.headers["set-cookie"]
    assert all(word in cookie for word in ("HttpOnly", "SameSite=strict", "Path=/"))
    page = client.get("/")
    assert "run_1" in page.text
    for text in (cookie, page.text, str(page.headers), moved.headers["location"]):
        assert TOKEN not in text


def test_without_it_one_plain_page_says_how_to_get_in(client: TestClient) -> None:
    for path in ("/", "/runs/run_1", "/runs.csv", "/nowhere", "/?token=wrong", "/static"):
        answer = client.get(path)
        assert answer.status_code == 401
        assert "`tunebook ui`" in answer.text
        assert "run_1" not in answer.text.replace("/runs/run_1", "")
    assert client.post("/runs/run_1/note", params={"token": TOKEN}).status_code == 401
    assert client.get("/static/app.css").status_code == 200
    assert client.get("/static/../runs.csv").status_code in (401, 404)


def test_the_page_without_it_leads_back_to_what_was_asked_for_and_nowhere_else(
    client: TestClient,
) -> None:
    text = client.get('/lineage?run="><script>&token=wrong').text
    assert '<a href="/lineage?run=%22%3E%3Cscript%3E">' in text
    assert '<a href="/evil.example/">' in client.get("http://127.0.0.1//evil.example/").text
    moved = client.get(f"http://127.0.0.1//evil.example/?token={TOKEN}")
    assert moved.headers["location"] == "/evil.example/"
    moved = client.get(f"http://127.0.0.1/%5Cevil.example/?token={TOKEN}")
    assert moved.headers["location"] == "/evil.example/"


def test_a_token_twice_in_an_address_leaves_it_too(client: TestClient) -> None:
    moved = client.get(f"/?token={TOKEN}&token=x&sort=name")
    assert (moved.status_code, moved.headers["location"]) == (303, "/?sort=name")


def test_cookies_of_two_books_stand_beside_each_other() -> None:
    assert cookie_of("a")[0] != cookie_of("b")[0]


@pytest.mark.parametrize("token", ["é ☂; x", "a b", '"'])
def test_a_token_of_any_letters_opens_the_book(book: Path, token: str) -> None:
    app = make_app(book, Guard(token=token))
    client = TestClient(app, base_url="http://127.0.0.1")
    assert client.get("/", params={"token": token}).status_code == 200
    assert client.get("/").status_code == 200


def test_a_host_of_others_is_refused_with_a_token_too(client: TestClient) -> None:
    for host in ("evil.example", "x@127.0.0.1", "127.0.0.1/evil"):
        headers = {"host": host, "authorization": f"Bearer {TOKEN}"}
        answer = client.get("/runs/run_1/", headers=headers)
        assert (answer.status_code, "location" in answer.headers) == (400, False)


@pytest.mark.parametrize(
    ("listens", "host", "status"),
    [
        ("127.0.0.1", "trainer.example", 200),
        ("127.0.0.1", "192.0.2.1", 400),
        ("0.0.0.0", "192.0.2.1", 200),
        ("0.0.0.0", "[2001:db8::1]:80", 200),
        ("0.0.0.0", "trainer.example", 200),
        ("0.0.0.0", "machine", 200),
        ("0.0.0.0", "machine.local", 200),
        ("0.0.0.0", "2130706433", 400),
        ("0.0.0.0", "evil.example", 400),
    ],
)
def test_beside_its_own_names_and_addresses_a_server_answers_to_those_it_was_told(
    book: Path, listens: str, host: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "Machine")
    guard = Guard(listens, TOKEN, frozenset({"trainer.example"}))
    headers = {"host": host, "authorization": f"Bearer {TOKEN}"}
    assert TestClient(make_app(book, guard)).get("/", headers=headers).status_code == status


def test_the_token_is_in_no_log_and_no_export(
    client: TestClient, book: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    token, _ = start_token(book)
    assert token not in offline_page(book)

    def bug(*_: object) -> None:
        raise RuntimeError("something broke")

    client.get("/", params={"token": TOKEN})
    monkeypatch.setattr("tunebook.web.runs.view_of", bug)
    answer = client.get("/", params={"token": TOKEN + "x"})
    assert answer.status_code == 500
    assert "something broke" in (said := capsys.readouterr().err)
    assert TOKEN not in said + answer.text
