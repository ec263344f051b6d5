"""Who may ask for a page, and what a page may do.

Every account of a machine reaches its loopback. A page of another site can make the browser send
requests here, or point a name of its own at this machine. So: a visitor must know the token, the
host asked for must be one of ours, what writes must come from our own page and carry the secret of
this server, and no page may load or run anything that is not ours.
"""

from __future__ import annotations

import ipaddress
import secrets
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from fastapi import Request
from fastapi.responses import PlainTextResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from tunebook.web.entry import ask_token, same

MAX_BODY_BYTES = 1 << 20
"""More than anybody writes into a form here."""
_READ = ("GET", "HEAD")
_FORM = "application/x-www-form-urlencoded"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Addresses that no other machine reaches."""
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

    Without a token every account of this machine is let in. `names` are hosts that it answers to
    beside this machine's own, in small letters. `csrf` is made anew by every server. ValueError for
    a token of no letters, which everybody knows.
    """

    host: str = "127.0.0.1"
    token: str | None = None
    names: frozenset[str] = frozenset()
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(24))

    def __post_init__(self) -> None:
        if self.token == "":
            raise ValueError("an empty token lets everybody in")

    async def __call__(
        self, request: Request, go_on: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        """Answer a request, or say in one sentence why not."""
        refused = await self._refusal(request)
        response = refused or await go_on(request)
        if _brings_a_body(request) and (refused or request.method in _READ):
            # Nobody reads that body: with its connection it ends here, and is no next request.
            response.headers["Connection"] = "close"
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    async def _refusal(self, request: Request) -> Response | None:
        if not self._answers_to(host := _host_of(request)):
            return _no(
                400,
                f"this server does not answer to the host {host[:100]!r}; open it as 127.0.0.1 or "
                "localhost, or start it with --name for the host it is to answer to",
            )
        if self.token is not None and (answer := ask_token(request, self.token)):
            return answer
        if request.method not in _READ and (answer := _too_long(request)):
            return answer
        if request.method not in _READ and not await self._is_ours(request):
            return _no(
                403,
                "this request does not come from a page of this server, or the server was started "
                "again since; copy what you wrote, reload the page and send it once more",
            )
        if _header(request, "sec-fetch-site") == "cross-site" and not _is_opened(request):
            return _no(403, "this server answers its own pages only; open it in a tab of its own")
        return None

    def _answers_to(self, host: str) -> bool:
        if host in {*LOOPBACK, self.host.lower(), *self.names}:
            return True
        # Whoever listens for other machines has addresses that nothing here knows of. A name can be
        # pointed here by anybody, an address cannot.
        return self.host not in LOOPBACK and (host in _own_names() or _is_address(host))

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
        return isinstance(given, str) and same(given, self.csrf)


def _too_long(request: Request) -> Response | None:
    """Refuse what would have to be held in memory, before any of it is read."""
    if "transfer-encoding" in request.headers:
        return _no(411, "this server takes only what says its length")
    length = _header(request, "content-length")
    if length and not (length.isdecimal() and int(length[:20]) <= MAX_BODY_BYTES):
        return _no(413, f"this is more than {MAX_BODY_BYTES:,} bytes; write something shorter")
    return None


def _brings_a_body(request: Request) -> bool:
    length = _header(request, "content-length")
    return "transfer-encoding" in request.headers or length not in ("", "0")


def _host_of(request: Request) -> str:
    host = _header(request, "host")
    if any(sign in host for sign in "@/\\?#"):  # an address of which a redirect would make more
        return ""
    try:
        # With the dot that ends a full name it is the same name.
        return (urlsplit(f"//{host}").hostname or "").removesuffix(".")
    except ValueError:
        return ""


def _own_names() -> set[str]:
    whole = socket.gethostname().lower()
    short = whole.partition(".")[0]
    return {whole, short, f"{short}.local"}


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _header(request: Request, name: str) -> str:
    return request.headers.get(name, "")


def _is_opened(request: Request) -> bool:
    """Tell whether somebody followed a link here, and no script or picture of another site asks."""
    return (_header(request, "sec-fetch-mode"), _header(request, "sec-fetch-dest")) == (
        "navigate",
        "document",
    )


def _no(status: int, sentence: str) -> Response:
    return PlainTextResponse(sentence + "\n", status)
