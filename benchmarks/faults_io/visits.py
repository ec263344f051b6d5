"""What is done with a verb that goes on until Ctrl-C, once it says that it is there."""

from __future__ import annotations

import re
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

PAGES = ("", "runs/done", "runs/lora", "lineage", "compare?run=done&run=lora", "notebook")
REFUSED = "refused"
"""Begins a line on a page or form that ended in a sentence."""

SERVER = """#!{python}
import http.server, sys
class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *words):
        pass
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.HTTPServer(("127.0.0.1", port), Health).serve_forever()
"""
"""Stands for a server of others: it answers that it is well, and nothing else."""


def visit_pages(said: str) -> str:
    """Open pages of a book that is shown in the browser, and write a note on one.

    Gives a line for each that ended in a sentence, and all of a page that calls anything a bug.
    """
    address = re.search(r"(http://\S+?/)\?token=(\S+)", said)
    assert address is not None, said
    token = urllib.parse.unquote(address[2])
    told, csrf = [], ""
    for page in PAGES:
        status, text = _ask(address[1] + page, token)
        csrf = csrf or "".join(re.findall(r'"X-CSRF-Token": "([^"]+)"', text)[:1])
        told += _sentence(page, status, text)
    if csrf:
        form = urllib.parse.urlencode({"text": "seen on a page", "csrf": csrf}).encode()
        told += _sentence("note", *_ask(f"{address[1]}runs/done/note", token, form))
    return "\n".join(told)


def visit_health(_said: str) -> str:
    """Do nothing: that a server answered is all that is known of it."""
    return ""


def make_server(folder: Path, python: str) -> Path:
    """Put a stand-in for vllm into a folder; gives the folder, to be put in front of PATH."""
    folder.mkdir()
    script = folder / "vllm"
    script.write_text(SERVER.format(python=python), encoding="utf-8")
    script.chmod(0o755)
    return folder


def _ask(url: str, token: str, form: bytes | None = None) -> tuple[int, str]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        asked = urllib.request.Request(url, form, {"Authorization": f"Bearer {token}"})
        with opener.open(asked, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read().decode(errors="replace")


def _sentence(page: str, status: int, text: str) -> list[str]:
    if status < 400 and "this is a bug" not in text:
        return []
    main = re.search(r"<main.*?</main>", text, re.DOTALL)
    words = " ".join(re.sub(r"<[^>]*>", " ", main[0] if main else text).split())
    return [f"{REFUSED} /{page} with {status}: {words[:500]}"]
