"""Every address of the server, whatever it is asked: a page or a sentence, and nothing written."""

from __future__ import annotations

import itertools
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from addresses import filled, gets, operations
from hostile_book import HOSTILE, make_hostile_book
from made_runs import make_run
from malformed_book import HARMS, make_malformed_book
from tunebook.web.app import make_app
from tunebook.web.guard import Guard

ODD = (
    "", "0", "-1", "NaN", "-inf", "1e999", "9" * 400, "x" * 3000, "null", "true", "\x00", "%00",
    "../../etc/passwd", "..", ".", "first", "second", "waits", "nobody", "val_loss", "a=b", "<",
    "first,second", "method=", "=~!", "val_loss<nan", "loss", "\ud7ff\U0001f600", "' OR 1=1 --",
    HOSTILE,
)  # fmt: skip
UNDECLARED = ("filter", "columns", "sort", "group", "baseline", "run", "choose", "last", "samples")
"""Parameters that handlers take off the query themselves."""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tunebook.book.places import create_book

    return make_hostile_book(create_book(tmp_path_factory.mktemp("hostile") / "mybook"))


def client_of(book: Path, guard: Guard | None = None) -> TestClient:
    app = make_app(book, guard)
    return TestClient(app, base_url="http://127.0.0.1", follow_redirects=False)


def contents(book: Path) -> dict[Path, bytes]:
    files = (p for p in book.rglob("*") if p.is_file() and ".tunebook" not in p.parts)
    return {path: path.read_bytes() for path in files}


class Dangers(HTMLParser):
    """The parts of a page that run or load anything but the files of the server."""

    def __init__(self, page: str):
        super().__init__()
        self._found: list[str] = []
        self.feed(page)

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = f"<{tag} {attrs}>"
        for name, value in attrs:
            loads = name == "src" or (tag, name) in (("link", "href"), ("form", "action"))
            if name.startswith("on") or (loads and not (value or "").startswith("/")):
                self._found.append(said)
            if name in ("href", "src", "action") and re.match(r"\s*(java|data|vb)", value or ""):
                self._found.append(said)
        if (tag == "script" and not dict(attrs).get("src")) or tag in ("iframe", "object", "base"):
            self._found.append(said)


def test_what_counts_as_dangerous_is_found() -> None:
    assert len(list(Dangers(HOSTILE))) == 4


def is_told(answer: Any) -> bool:
    """Tell whether an answer is a page, or a sentence that says what is wrong with the question."""
    if answer.status_code < 400:
        return True
    said = re.search(r'class="mistake"[^>]*>([^<]+)<', answer.text)
    return answer.status_code < 500 and said is not None and len(said[1].split()) > 1


def test_no_odd_query_is_more_than_a_sentence(hostile: Path) -> None:
    client, random_, wrong = client_of(hostile), random.Random(0), []
    for path, inside, query in gets(client.app):
        names = (*query, *UNDECLARED)
        for n in range(16):
            asked: list[tuple[str, str]] = [
                (random_.choice(names), random_.choice(ODD)) for _ in range(random_.randint(1, 6))
            ]
            if n % 3 == 0:
                asked += [("run", "first"), ("run", "second")]
            answer = client.get(filled(path, inside), params=asked)
            if not is_told(answer):
                said = re.findall(r'class="mistake"[^>]*>([^<]+)<', answer.text)
                wrong.append((path, [(k, v[:20]) for k, v in asked], answer.status_code, said))
    assert not wrong


def test_a_malformed_file_costs_no_page(book: Path) -> None:
    make_malformed_book(book)
    client, wrong = client_of(book), []
    for path, inside, query in gets(client.app):
        for name in HARMS if inside or "run" in query else ():
            asked = {"run": [name, "second"]} if "run" in query else {}
            answer = client.get(filled(path, inside, name), params=asked)
            if answer.status_code >= 500 or not is_told(answer):
                wrong.append((path, name, answer.status_code))
        if not inside and client.get(path).status_code >= 500:
            wrong.append((path, "all runs", 500))
    assert not wrong


def test_a_malformed_file_is_told_and_the_rest_is_shown(book: Path) -> None:
    client = client_of(make_malformed_book(book))
    page = client.get("/chess").text
    assert "chess-final-00000001.json of chess cannot be read" in page.replace(".jsonl", ".json")
    assert 'class="band' in page
    assert "first final" in page
    told = {
        "/grid/grid-empty": "cannot be read (IndexError",
        "/side?run=probe-interval&run=second": "cannot be read (ValueError",
        "/side?run=answers-bare&run=second": "answers of answers-bare, second cannot be read",
        "/compare?run=data-number&run=second": "a data.json cannot be read (TypeError",
    }
    for address, words in told.items():
        answer = client.get(address)
        assert answer.status_code == 200
        assert words in answer.text, address
    for name in ("probe", "grid", "data-number", "plan-checks"):
        (book / "runs" / name / "notebook.md").unlink(missing_ok=True)
        answer = client.get(f"/notebook/{name}")
        assert "cannot be read" in answer.text
        assert "A few sayings are enough" in answer.text


def test_no_path_leads_out_of_the_book(hostile: Path) -> None:
    client = client_of(hostile)
    secret = hostile.parent / "secret.txt"
    secret.write_text("the secret")
    odd = (
        "..%2f..%2fsecret.txt", "%2e%2e", "%2e%2e%2fsecret.txt", "..%5csecret.txt", "%00",
        "x" * 300, "%3Cscript%3Ewindow.fooled=5%3C", "..x%0a", "first%2f..", "first%00", "%ff%fe",
    )  # fmt: skip
    for path, inside, _ in gets(client.app):
        for values in itertools.product(odd, repeat=min(len(inside), 1)):
            for one in inside if values else ():
                rest = filled(path.replace(f"{{{one}}}", values[0]), inside)
                answer = client.get(rest)
                assert 400 <= answer.status_code < 500, (rest, answer.status_code)
                assert "the secret" not in answer.text
    for path in ("/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", 
                 "//etc/passwd", "/static//etc/passwd", "/static/vendor", "/static/"):  # fmt: skip
        answer = client.get(path)
        assert 400 <= answer.status_code < 500, (path, answer.status_code)
        assert "make_app" not in answer.text


def test_hostile_texts_are_never_markup_on_any_page(hostile: Path) -> None:
    client = client_of(hostile)
    shown = 0
    pairs = {"run": ["first", "second"]}
    for path, inside, _ in gets(client.app):
        for name in ("first", "second", "waits", "imported"):
            for asked in ({}, pairs):
                answer = client.get(filled(path, inside, name), params=asked)
                assert is_told(answer), (path, name, answer.status_code, answer.text[-300:])
                if "html" in answer.headers["content-type"]:
                    shown += "window.fooled" in answer.text
                    assert "1337" not in answer.text
                    assert not list(Dangers(answer.text)), (path, name)
                else:
                    assert answer.headers["x-content-type-options"] == "nosniff"
    assert shown > 20


def test_whatever_writes_needs_the_secret_and_a_page_of_ours(hostile: Path) -> None:
    guard = Guard()
    client = client_of(hostile, guard)
    writing = [one for one in operations(client.app) if one[1] not in ("get", "head")]
    assert {method for _, method, _, _ in writing} == {"post"}
    before = {
        p: p.read_bytes() for p in hostile.rglob("*") if p.is_file() and ".tunebook" not in p.parts
    }
    for path, _, inside, _ in writing:
        there, form = filled(path, inside), {"text": "fooled", "hypothesis": "x", "choice": "a"}
        ours = {"x-csrf-token": guard.csrf}
        for headers in ({}, {"x-csrf-token": ""}, ours | {"origin": "http://evil.example"},
                        ours | {"origin": "http://127.0.0.1:1"},
                        ours | {"sec-fetch-site": "same-site"},
                        ours | {"host": "evil.example"}):  # fmt: skip
            answer = client.post(there, data=form, headers=headers)
            assert answer.status_code in (400, 403), (there, headers)
        assert client.post(there, data=form | {"csrf": "guess"}).status_code == 403
    after = {
        p: p.read_bytes() for p in hostile.rglob("*") if p.is_file() and ".tunebook" not in p.parts
    }
    assert after == before


def test_other_methods_change_nothing_and_are_told_so(hostile: Path) -> None:
    guard = Guard()
    client = client_of(hostile, guard)
    for path, inside, _ in gets(client.app):
        for method in ("PUT", "DELETE", "PATCH"):
            there = filled(path, inside)
            assert client.request(method, there).status_code == 403
            answer = client.request(method, there, headers={"x-csrf-token": guard.csrf})
            assert answer.status_code == 405
        assert client.options(there, headers={"origin": "http://evil.example"}).status_code == 403
        assert "access-control-allow-origin" not in client.get(there).headers


def test_with_a_token_every_page_asks_for_it(hostile: Path) -> None:
    client = client_of(hostile, Guard("0.0.0.0", "sesame"))
    for path, inside, _ in gets(client.app):
        there = filled(path, inside)
        answer = client.get(there)
        assert answer.status_code == 401, there
        # The address that was asked for is all that a page can tell: no word of the book.
        assert len(answer.text) < 1500 + len(there), there
        assert "sayings" not in answer.text.replace(there, "")
    assert client.get("/static/app.css").status_code == 200


def test_a_bug_is_a_sentence_and_its_traceback_is_only_for_who_asks(
    book: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    make_run(book, "run_1")
    for debug in (False, True):
        app = make_app(book, debug=debug)
        monkeypatch.setattr(app.state.desk.shelf, "measured", lambda **_: 1 // 0)
        answer = TestClient(app, base_url="http://127.0.0.1").get("/")
        assert answer.status_code == 500
        assert "this is a bug in tunebook: ZeroDivisionError" in answer.text
        assert "Traceback" not in answer.text
        assert "content-security-policy" in answer.headers
        said = capfd.readouterr().err
        assert ("Traceback" in said) is debug
        assert "/: this is a bug in tunebook: ZeroDivisionError" in said


def test_no_page_needs_torch(hostile: Path) -> None:
    code = """
import sys
from pathlib import Path
from fastapi.testclient import TestClient
from addresses import filled, gets
from tunebook.web.app import make_app
client = TestClient(make_app(Path(sys.argv[1])), base_url="http://127.0.0.1")
slow = {"scipy", "matplotlib"} & sys.modules.keys()
assert not slow, f"the server starts with {slow}"
for path, inside, _ in gets(client.app):
    for asked in ({}, {"run": ["first", "second"]}):
        assert client.get(filled(path, inside), params=asked).status_code < 500, path
heavy = {"torch", "transformers", "peft"} & sys.modules.keys()
assert not heavy, heavy
"""
    tests = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code, str(hostile)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": f"{tests}:{tests.parent}/src"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
