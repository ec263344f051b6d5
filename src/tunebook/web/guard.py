"""Who may ask for a page, and what a page may do.

A page of another site can make the browser send requests here, or point a name of its own at this
machine. So: the host asked for must be one of ours, what writes must come from our own page and
carry the secret of this server, and no page may load or run anything that is not ours.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from fastapi import Request
from fastapi.responses import PlainTextResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

COOKIE = "tunebook_token"
MAX_BODY_BYTES = 1 << 20
"""More than anybody writes into a form here."""
_FORM = "application/x-www-form-urlencoded"
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_HEADERS = {
    # Inline styles are allowed for what scripts set on elements only: 'self' has no inline part.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; font-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@dataclass(frozen=True, slots=True)
class Guard:
    """What a server lets in: `host` is the address it listens on, `token` what visitors must know.

    Without a token only names of this machine are answered. `csrf` is made anew by every server.
    ValueError for a token of no letters, which everybody knows.
    """

    host: str = "127.0.0.1"
    token: str | None = None
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(24))

    def __post_init__(self) -> None:
        if self.token == "":
            raise ValueError("an empty token lets everybody in")

    async def __call__(
        self, request: Request, go_on: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        """Answer a request, or say in one sentence why not."""
        response = await self._refusal(request) or await go_on(request)
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    async def _refusal(self, request: Request) -> Response | None:
        if self.token is None and _host_of(request) not in {*_LOOPBACK, self.host}:
            return _no(
                400,
                f"this server does not answer to the host {_host_of(request)!r}; open it as "
                "127.0.0.1 or localhost, or start it with --token",
            )
        if self.token is not None and (answer := self._without_token(request, self.token)):
            return answer
        if request.method not in ("GET", "HEAD") and (answer := _too_long(request)):
            return answer
        if request.method not in ("GET", "HEAD") and not await self._is_ours(request):
            return _no(
                403,
                "this request does not come from a page of this server, or the server was started "
                "again since; copy what you wrote, reload the page and send it once more",
            )
        if _header(request, "sec-fetch-site") == "cross-site" and not _is_opened(request):
            return _no(403, "this server answers its own pages only; open it in a tab of its own")
        return None

    def _without_token(self, request: Request, token: str) -> Response | None:
        given = request.query_params.get("token")
        if given is not None and _same(given, token):
            left = request.url.remove_query_params("token")
            target = left.path + (f"?{left.query}" if left.query else "")
            answer = RedirectResponse("/" + target.lstrip("/"), 303)
            answer.set_cookie(COOKIE, token, httponly=True, samesite="strict")
            return answer
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        if _same(request.cookies.get(COOKIE, ""), token) or _same(bearer, token):
            return None
        return _no(401, "this server asks for its token; open it once as /?token=...")

    async def _is_ours(self, request: Request) -> bool:
        origin = request.headers.get("origin")
        host = request.headers.get("host")
        if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
            return False
        if _header(request, "sec-fetch-site") not in ("", "same-origin", "none"):
            return False
        given = request.headers.get("x-csrf-token")
        # No page here sends files, whose forms can be broken in more ways.
        if given is None and _header(request, "content-type").startswith(_FORM):
            try:
                await request.body()  # kept by the request: the page can read the form again
                given = (await request.form()).get("csrf")  # type: ignore[assignment]
            except (HTTPException, ClientDisconnect):  # too many fields, or nobody is there
                return False
        return isinstance(given, str) and _same(given, self.csrf)


def _too_long(request: Request) -> Response | None:
    """Refuse what would have to be held in memory, before any of it is read."""
    if "transfer-encoding" in request.headers:
        return _no(411, "this server takes only what says its length")
    length = _header(request, "content-length")
    if length and not (length.isdecimal() and int(length[:20]) <= MAX_BODY_BYTES):
        return _no(413, f"this is more than {MAX_BODY_BYTES:,} bytes; write something shorter")
    return None


def _host_of(request: Request) -> str:
    try:
        return urlsplit(f"//{_header(request, 'host')}").hostname or ""
    except ValueError:
        return ""


def _header(request: Request, name: str) -> str:
    return request.headers.get(name, "")


def _is_opened(request: Request) -> bool:
    """Tell whether somebody followed a link here, and no script or picture of another site asks."""
    return (_header(request, "sec-fetch-mode"), _header(request, "sec-fetch-dest")) == (
        "navigate",
        "document",
    )


def _same(given: str, secret: str) -> bool:
    return hmac.compare_digest(given.encode(), secret.encode())


def _no(status: int, sentence: str) -> Response:
    return PlainTextResponse(sentence + "\n", status)
