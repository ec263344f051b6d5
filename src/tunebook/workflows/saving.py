"""One checkpoint at a time, written aside while training goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable

import psutil

from tunebook.recipe.tree import Recipe

LARGE_BYTES = 100 * 1000**2
"""From this size on a checkpoint stops a GPU for longer than copying it."""


class Writer:
    """Does one piece of work in a thread, and what follows from it where it is asked to.

    Events are written and links moved by whoever calls `look` or `finish`, never by the thread.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._failed: BaseException | None = None
        self._then: Callable[[], None]

    def begin(self, work: Callable[[], None], then: Callable[[], None]) -> None:
        """Start work, when that before it is done; `then` is called once it is."""
        self.finish()

        def guarded() -> None:
            try:
                work()
            except BaseException as error:  # raised again where it is waited for
                self._failed = error

        self._then = then
        self._thread = threading.Thread(target=guarded, name="checkpoint")
        self._thread.start()

    def look(self) -> None:
        """Do what follows from work that is done; raises what went wrong in it."""
        if self._thread is not None and not self._thread.is_alive():
            self.finish()

    def finish(self) -> None:
        """Wait for the work; raises what went wrong in it."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        thread.join()
        failed, self._failed = self._failed, None
        if failed is not None:
            raise failed
        self._then()


def words_of(recipe: Recipe, device: str, devices: int, checkpoint_bytes: int) -> str | None:
    """Say in a plan what becomes of the steps while a checkpoint is written; None is as ever."""
    if writes_aside(recipe, device, devices, checkpoint_bytes):
        return "checkpoints are copied in the host's memory and written while training goes on"
    if recipe.checkpoint.asynchronous is True:
        return (
            "steps wait for checkpoints: checkpoint.asynchronous is for method full on one device"
        )
    return None


def writes_aside(recipe: Recipe, device: str, devices: int, copied_bytes: int) -> bool:
    """Tell whether checkpoints are copied, `copied_bytes` each, and written while training goes on.

    `auto` does so on CUDA, where the processor is idle and steps are short, if the host has room
    for the copy. On a CPU the writer takes from the steps what it saves them.
    """
    wanted = recipe.checkpoint.asynchronous
    if recipe.method != "full" or devices > 1 or wanted is False:
        return False
    if wanted is True:
        return True
    room = psutil.virtual_memory().available
    return device == "cuda" and LARGE_BYTES <= copied_bytes <= room // 2
