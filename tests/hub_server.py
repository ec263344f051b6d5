"""A small hub on 127.0.0.1 that takes repositories, branches, large files and commits."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_sesame"


@dataclass
class Repo:
    """Files by branch and name."""

    private: bool
    branches: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"main": {}})


class HubServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repos: dict[str, Repo] = {}
        self.large: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.cards: list[str] = []
        self.fail: dict[str, int] = {}
        """Status by what a path ends with."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: HubServer
    protocol_version = "HTTP/1.1"

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("content-length") or 0))

    def _say(self, value: Any, status: int = 200) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _path(self) -> str:
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append(f"{self.command} {path}")
        return path

    def _refused(self, path: str) -> bool:
        status = next((s for end, s in self.server.fail.items() if path.endswith(end)), None)
        if status is None and self.headers.get("authorization") != f"Bearer {TOKEN}":
            status = 401
        if status is not None:
            # What a hub says may hold what it was sent.
            self._say({"error": f"no: {self.headers.get('authorization')}"}, status)
        return status is not None

    def do_GET(self) -> None:
        path = self._path()
        if self._refused(path):
            return
        if found := re.fullmatch(r"/api/models/([\w-]+/[\w-]+)/tree/(.+)", path):
            files = self.server.repos[found[1]].branches[found[2]]
            self._say([{"type": "file", "path": n, "oid": "0", "size": 1} for n in files])
        elif found := re.fullmatch(r"/api/models/([\w-]+/[\w-]+)", path):
            repo = self.server.repos.get(found[1])
            if repo is None:
                self._say({"error": "Repository not found"}, 404)
            else:
                self._say({"id": found[1], "private": repo.private, "siblings": []})
        else:
            self._say({"error": "not found"}, 404)

    def do_PUT(self) -> None:
        oid = self._path().rpartition("/")[2]
        data = self._body()
        assert hashlib.sha256(data).hexdigest() == oid
        self.server.large[oid] = data
        self._say({})

    def do_POST(self) -> None:
        path, body = self._path(), self._body()
        if self._refused(path):
            return
        if path == "/api/validate-yaml":
            self.server.cards.append(json.loads(body)["content"])
            self._say({"errors": [], "warnings": []})
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif found := re.fullmatch(r"/api/models/([\w-]+/[\w-]+)/branch/(.+)", path):
            branches = self.server.repos[found[1]].branches
            branches.setdefault(found[2], dict(branches["main"]))
            self._say({})
        elif "/preupload/" in path:
            large = (".safetensors", ".gguf")
            self._say({"files": [_mode(f["path"], large) for f in json.loads(body)["files"]]})
        elif path.endswith("/info/lfs/objects/batch"):
            objects = json.loads(body)["objects"]
            self._say({"transfer": "basic", "objects": [self._upload(o) for o in objects]})
        elif found := re.fullmatch(r"/api/models/([\w-]+/[\w-]+)/commit/(.+)", path):
            self._commit(found[1], found[2], body)
        else:
            self._say({"error": "not found"}, 404)

    def _create(self, asked: dict[str, Any]) -> None:
        name = f"{asked['organization']}/{asked['name']}"
        address = {"url": f"{self.server.url}/{name}"}
        if name in self.server.repos:
            self._say(address, 409)
            return
        private = asked.get("private") is True or asked.get("visibility") == "private"
        self.server.repos[name] = Repo(private)
        self._say(address)

    def _upload(self, asked: dict[str, Any]) -> dict[str, Any]:
        href = f"{self.server.url}/large/{asked['oid']}"
        return {**asked, "actions": {"upload": {"href": href, "header": {}}}}

    def _commit(self, repo: str, branch: str, body: bytes) -> None:
        files = self.server.repos[repo].branches[branch]
        for line in body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                files[value["path"]] = self.server.large[value["oid"]]
        url = f"{self.server.url}/{repo}/commit/1"
        self._say({"commitUrl": url, "commitOid": "1", "success": True})

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def _mode(path: str, large: tuple[str, ...]) -> dict[str, Any]:
    mode = "lfs" if path.endswith(large) else "regular"
    return {"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": None}


@contextmanager
def serve_hub() -> Iterator[HubServer]:
    """Serve until the block ends."""
    server = HubServer()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
