"""What a connection may keep the server waiting for, and how one ends that speaks no HTTP.

uvicorn waits for ever for the rest of a request and for a reader who does not read. It takes a
class for its connections (`http=`): this one is its own, with a clock that runs while it is the
client's turn.
"""

from __future__ import annotations

import asyncio
import resource
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

PATIENCE_SECONDS = 20.0
"""How long a client may take for a whole request, or read nothing of an answer."""


def _most() -> int:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 100 if files == resource.RLIM_INFINITY else min(100, files // 4)


MOST_CONNECTIONS = _most()
"""A browser keeps six. Each may hold an answer of megabytes, and a file of the process."""


class Connection(H11Protocol):
    """A connection that is closed once it keeps the server waiting for too long.

    With more than `MOST_CONNECTIONS`, the one that does so for the longest makes room.
    """

    waiting_since: float | None = None
    """When it became the client's turn, by the loop's clock; None while it is the server's."""

    _clock: asyncio.TimerHandle | None = None
    _unsent_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to wait for a request."""
        super().connection_made(transport)
        self._whose_turn()
        if len(self.connections) > MOST_CONNECTIONS:
            waiting = [c for c in self.connections if isinstance(c, Connection) and c._clock]
            # One that waits as well: with all others being answered, it is this one.
            min(waiting, key=lambda one: one.waiting_since or 0.0)._hang_up()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take a part of a request."""
        super().data_received(data)
        self._whose_turn()

    def on_response_complete(self) -> None:
        """Wait for the next request, or answer the one that is there already."""
        super().on_response_complete()
        self._whose_turn()

    def pause_writing(self) -> None:
        """Wait until the client has read more."""
        super().pause_writing()
        self._whose_turn()

    def resume_writing(self) -> None:
        """Go on: the client has read."""
        super().resume_writing()
        self._whose_turn()

    def send_400_response(self, msg: str) -> None:
        """Say that this is no HTTP, where nothing else was said yet.

        What follows a head may be broken while its answer is made, or after it was sent; h11 raises
        for a second answer.
        """
        cycle: Any = self.cycle
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True  # whatever is still being made is not sent
            cycle.message_event.set()
        # The answer to a HEAD has no body, and uvicorn would send one.
        has_body = cycle is None or cycle.response_complete or cycle.scope["method"] != "HEAD"
        if has_body and self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.close()

    def _whose_turn(self) -> None:
        cycle: Any = self.cycle
        answered = cycle is None or cycle.response_complete
        if not (answered or cycle.more_body or self.flow.write_paused):
            self._stop()
        elif self._clock is None and self in self.connections:
            self.waiting_since = self.loop.time()
            self._start()

    def _start(self) -> None:
        self._unsent_bytes = self.transport.get_write_buffer_size()
        self._clock = self.loop.call_later(PATIENCE_SECONDS, self._time_is_up)

    def _stop(self) -> None:
        self.waiting_since = None
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _time_is_up(self) -> None:
        # A large page over a slow line takes longer, but gets on.
        if 0 < self.transport.get_write_buffer_size() < self._unsent_bytes:
            self._start()
        else:
            self._hang_up()

    def _hang_up(self) -> None:
        self._stop()
        # At once: of many that come together, each is to make room for one.
        self.connections.discard(self)
        self.transport.abort()
