"""Every address that the server of a book has, found from the server itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI


def operations(app: FastAPI) -> Iterator[tuple[str, str, list[str], list[str]]]:
    """Give path, method and the names of path and query parameters of all there is."""
    for path, methods in app.openapi()["paths"].items():
        for method, said in methods.items():
            known: list[dict[str, Any]] = said.get("parameters", [])
            inside = [one["name"] for one in known if one["in"] == "path"]
            yield path, method, inside, [one["name"] for one in known if one["in"] == "query"]


def filled(path: str, inside: list[str], name: str = "first") -> str:
    for one in inside:
        path = path.replace(f"{{{one}}}", name if one == "name" else "run.yaml")
    return path


def gets(app: FastAPI) -> list[tuple[str, list[str], list[str]]]:
    found = [
        (path, inside, query) for path, method, inside, query in operations(app) if method == "get"
    ]
    assert len(found) > 15  # a walk that finds nothing would prove nothing
    return found


PAIR = {"run": ["first", "second"]}


def pages(app: FastAPI) -> list[str]:
    """Give the addresses of a book with runs `first` and `second` that answer with a whole page."""
    from fastapi.testclient import TestClient

    client = TestClient(app, base_url="http://127.0.0.1", follow_redirects=False)
    found = []
    for path, inside, query in gets(app):
        answer = client.get(filled(path, inside), params=PAIR if "run" in query else {})
        if answer.status_code == 200 and "<main" in answer.text:
            found.append(str(answer.request.url.raw_path, "ascii"))
    return found
