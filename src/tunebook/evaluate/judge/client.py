"""One question to the judge over HTTP; what the endpoint does wrong comes back as a named fault.

The client of `openai` repeats a call after 408, 409, 429, 5xx, a time-out or a lost connection,
with growing pauses or the pause that `Retry-After` asks for (up to two minutes). Around it stand
a rate limit that counts repetitions too, a limit on the size and the time of a reply, and what may
leave this machine: no header but the needed ones, no second host.
"""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import orjson

from tunebook.errors import TunebookError, UsageError
from tunebook.evaluate.judge.addresses import refuse_link_local
from tunebook.evaluate.judge.keys import hide_key
from tunebook.evaluate.judge.settings import NEEDS_OPENAI, Judge

try:
    import openai
except ModuleNotFoundError:
    raise UsageError(NEEDS_OPENAI) from None

# The HTTP library that openai sends with; its older releases have another.
_HTTP = importlib.import_module(openai.DefaultAsyncHttpxClient.__mro__[1].__module__.split(".")[0])

MAX_REPLY_BYTES = 1 << 20
# Of what comes with a refusal the first sentence is shown; openai reads all of it.
_MAX_REFUSAL_BYTES = 1 << 16
# For one question, its repetitions and pauses included; more where one request may take longer.
_MOST_SECONDS = 900.0
# The last two the client reads back from its own request.
_KEPT_HEADERS = {
    "host",
    "user-agent",
    "accept",
    "accept-encoding",
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "x-stainless-raw-response",
    "x-stainless-retry-count",
}
_NO_KEY = "none"
_SHOWN = 500  # characters of what an endpoint says

# Faults of the endpoint, or of how it is asked: nothing was judged, and a later session asks again.
RATE_LIMITED = "rate limited"
SERVER_ERROR = "server error"
TIMED_OUT = "timed out"
UNREACHABLE = "unreachable"
REJECTED = "request rejected"
NOT_THE_PROTOCOL = "reply not in the protocol"
UNANSWERED = frozenset(
    (RATE_LIMITED, SERVER_ERROR, TIMED_OUT, UNREACHABLE, REJECTED, NOT_THE_PROTOCOL)
)
# Faults of a reply.
BROKEN_OFF = "reply broken off"
TOO_LARGE = "reply too large"
CUT_OFF = "reply cut off at max_tokens"


class JudgeError(TunebookError):
    """The judge cannot be asked; what was scored so far is kept."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of one question: the text, or a fault with what the endpoint said of it.

    `requests` counts what was sent, repetitions included. Token counts are the endpoint's own.
    """

    text: str
    fault: str | None
    requests: int
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class Endpoint:
    """Asks one judge; use it as an async context manager, in one event loop."""

    def __init__(self, judge: Judge) -> None:
        judge.refuse_link_local()
        self._judge = judge
        self._key = judge.key()
        self._next_slot = 0.0
        stated = {"temperature": judge.temperature, "max_tokens": judge.max_tokens}
        self._body = {**{k: n for k, n in stated.items() if n is not None}, **judge.extra}
        self._client = openai.AsyncOpenAI(
            api_key=self._key or _NO_KEY,
            base_url=judge.base_url,
            max_retries=judge.retries,
            timeout=judge.timeout_seconds,
            http_client=openai.DefaultAsyncHttpxClient(
                # The key is bound to its host, so a redirect is an answer like any other.
                follow_redirects=False,
                trust_env=not judge.is_local,
                event_hooks={
                    "request": [self._before_sending],
                    "response": [self._before_reading],
                },
            ),
        )

    async def __aenter__(self) -> Endpoint:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def ask(self, prompt: str) -> Reply:
        """Ask one question; JudgeError when no question can be answered, as with a wrong key."""
        await self._wait_for_slot()
        try:
            async with asyncio.timeout(max(_MOST_SECONDS, self._judge.timeout_seconds)):
                return await self._ask(prompt)
        except TimeoutError:
            return Reply("", TIMED_OUT, self._judge.retries + 1)
        except openai.APIStatusError as error:
            return self._status_fault(error)
        except openai.APITimeoutError:
            return Reply("", TIMED_OUT, self._judge.retries + 1)
        except openai.APIConnectionError as error:
            why = self._shown(str(error.__cause__ or error))
            return Reply(why, UNREACHABLE, self._judge.retries + 1)
        except _HTTP.HTTPError as error:  # a refusal torn off, which openai leaves as it is
            return Reply(self._shown(str(error)), UNREACHABLE, self._judge.retries + 1)

    async def _ask(self, prompt: str) -> Reply:
        async with self._client.chat.completions.with_streaming_response.create(
            model=self._judge.model,
            messages=[{"role": "user", "content": prompt}],
            extra_body=self._body,
        ) as response:
            requests = 1 + int(response.http_request.headers.get("x-stainless-retry-count", 0))
            parts, size = [], 0
            try:
                async with asyncio.timeout(self._judge.timeout_seconds):
                    async for part in response.iter_bytes():
                        parts.append(part)
                        size += len(part)
                        if size > MAX_REPLY_BYTES:
                            return Reply("", TOO_LARGE, requests)
            except TimeoutError:
                return Reply("", TIMED_OUT, requests)
            except Exception as error:  # httpx's own classes, which openai leaves as they are
                return Reply(self._shown(str(error)), BROKEN_OFF, requests)
        return self._read(b"".join(parts), requests)

    def _read(self, body: bytes, requests: int) -> Reply:
        try:
            found = orjson.loads(body)
            choice = found["choices"][0]
            text = choice["message"]["content"] or ""
            if not isinstance(text, str):
                raise TypeError
        except (orjson.JSONDecodeError, KeyError, IndexError, TypeError):
            return Reply(self._shown(body.decode("utf-8", "replace")), NOT_THE_PROTOCOL, requests)
        usage = found.get("usage")
        counts = usage if isinstance(usage, dict) else {}
        tokens = [counts.get(key) for key in ("prompt_tokens", "completion_tokens")]
        sent, received = (n if isinstance(n, int) and n >= 0 else None for n in tokens)
        fault = CUT_OFF if choice.get("finish_reason") == "length" else None
        return Reply(self._hide_key(text), fault, requests, sent, received)

    def _status_fault(self, error: openai.APIStatusError) -> Reply:
        status = error.status_code
        said = self._shown(" ".join(str(error).split()))
        if 300 <= status < 400:
            # Where it leads is not said: whoever gives that as the address sends the key there.
            raise JudgeError(
                f"{self._judge.base_url} answers with {status} and points elsewhere, which is not "
                "followed: questions and key are for this address; check base_url"
            )
        if status in (401, 402, 403, 404):
            way_out = {
                402: "pay for more, and the same command goes on",
                404: "check base_url (it often ends in /v1) and the model's name",
            }.get(status, self._about_key())
            raise JudgeError(f"{self._judge.base_url} refuses with {status} ({said}); {way_out}")
        requests = 1 + int(error.request.headers.get("x-stainless-retry-count", 0))
        if status == 429:
            return Reply(said, RATE_LIMITED, requests)
        return Reply(said, SERVER_ERROR if status >= 500 or status == 408 else REJECTED, requests)

    def _about_key(self) -> str:
        if self._judge.key_env is None:
            return "give key_env, the name of the environment variable with the key it asks for"
        return f"check the key in {self._judge.key_env}"

    def _shown(self, text: str) -> str:
        """Cut text for a message, only after the key was taken out: half a key is a secret too."""
        return self._hide_key(text)[:_SHOWN]

    def _hide_key(self, text: str) -> str:
        """Take the key out of what an endpoint says back, before anything is written down."""
        return hide_key(self._key, text) if self._key else text

    async def _before_sending(self, request: Any) -> None:
        # OPENAI_ORG_ID and its kind, read from the environment, are not for another host to see.
        for name in set(request.headers) - _KEPT_HEADERS:
            del request.headers[name]
        # A kilobyte that unpacks to gigabytes would pass any limit on what is received.
        request.headers["accept-encoding"] = "identity"
        # A name may lead elsewhere than when it was looked up first.
        await asyncio.to_thread(refuse_link_local, request.url.host, str(request.url))
        if request.headers.get("x-stainless-retry-count", "0") != "0":
            await self._wait_for_slot()

    async def _before_reading(self, response: Any) -> None:
        # Packed all the same: read as it came, which is no JSON.
        response.headers.pop("content-encoding", None)
        if response.status_code >= 300:
            response.stream = _Beginning(response.stream, self._judge.timeout_seconds)

    async def _wait_for_slot(self) -> None:
        if self._judge.rate_per_minute is None:
            return
        slot = max(self._next_slot, time.monotonic())
        self._next_slot = slot + 60 / self._judge.rate_per_minute
        await asyncio.sleep(slot - time.monotonic())


class _Beginning(_HTTP.AsyncByteStream):  # type: ignore[misc, name-defined]
    """The first bytes and seconds of a refusal, whatever else would follow."""

    def __init__(self, stream: Any, seconds: float) -> None:
        self._stream = stream
        self._ends = time.monotonic() + seconds

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for part in self._stream:
            size += len(part)
            yield part
            if size > _MAX_REFUSAL_BYTES or time.monotonic() > self._ends:
                return

    async def aclose(self) -> None:
        await self._stream.aclose()
