"""How a visitor shows the token: in the address once, then as a cookie, or in a header.

The cookie is made from the token and named by it: browsers send a cookie to every port of a host,
and two books that are served side by side must not overwrite each other's.
"""

from __future__ import annotations

import hashlib
import hmac
from html import escape
from urllib.parse import quote, urlencode

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

_KEPT_SECONDS = 30 * 24 * 3600
_OPEN = "/static/"
"""What the page of a refusal loads; these files are the same everywhere."""
_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>tunebook asks for its token</title>
<link rel="icon" href="/static/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/static/app.css">
</head>
<body>
<main id="main">
<h1>This book asks for its token</h1>
<p class="mistake" role="alert">This server asks for its token; open the address that `tunebook ui`
printed where it was started: it ends in /?token=...</p>
<p>If this browser was let in before and a link of another site led here,
<a href="{here}">open the page from here</a>.</p>
</main>
</body>
</html>
"""


def cookie_of(token: str) -> tuple[str, str]:
    """Give name and value of the cookie that stands for a token, which is in neither."""
    name, value = (
        hmac.new(token.encode(), what, hashlib.sha256).hexdigest() for what in (b"name", b"value")
    )
    return f"tunebook_{name[:12]}", value


def same(given: str, secret: str) -> bool:
    """Compare with a secret in a time that tells nothing of it."""
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), secret.encode())


def ask_token(request: Request, token: str) -> Response | None:
    """Let in who shows the token with None; else give the answer: a cookie, or the way in."""
    reads = request.method in ("GET", "HEAD")
    path = str(request.scope["path"])
    if reads and path.startswith(_OPEN):
        return None
    name, value = cookie_of(token)
    if reads and any(same(given, token) for given in request.query_params.getlist("token")):
        answer = RedirectResponse(_here(request), 303, headers={"Referrer-Policy": "no-referrer"})
        answer.set_cookie(
            name, value, max_age=_KEPT_SECONDS, path="/", httponly=True, samesite="strict"
        )
        return answer
    bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
    if same(request.cookies.get(name, ""), value) or same(bearer, token):
        return None
    here = _here(request) if reads else "/"
    headers = {"WWW-Authenticate": 'Bearer realm="tunebook"'}
    return HTMLResponse(_PAGE.format(here=escape(here)), 401, headers)


def _here(request: Request) -> str:
    """Write the path asked for without the token, so that it can lead to no other host."""
    query = [(k, v) for k, v in request.query_params.multi_items() if k != "token"]
    path = quote(str(request.scope["path"]).lstrip("/\\"), errors="replace")
    return f"/{path}" + (f"?{urlencode(query, errors='replace')}" if query else "")
