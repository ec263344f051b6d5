"""Let a SIGTERM or a SIGHUP end a command as Ctrl-C does: what it left aside is cleared first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from tunebook.errors import RunEnded

_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def ended_by_signals(left: str) -> Iterator[None]:
    """Raise RunEnded, with 128 and the number as exit code, where a signal asks for the end.

    `left` says what is there then. A signal that is ignored, as nohup has it, stays so; outside of
    the main thread nothing is changed, for no other can.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, _frame: FrameType | None) -> None:
        for each in held:  # a second one would end the clearing
            signal.signal(each, signal.SIG_IGN)
        raise RunEnded(f"stopped by {signal.Signals(number).name}; {left}", 128 + number)

    before = {number: signal.getsignal(number) for number in _SIGNALS}
    held = [number for number, handler in before.items() if handler != signal.SIG_IGN]
    for number in held:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in held:
            signal.signal(number, before[number] or signal.SIG_DFL)
