"""A library that takes long to import, imported beside the pages."""

from __future__ import annotations

import importlib
import threading


class Later:
    """A module that a thread imports once somebody needs it.

    scipy's statistics take a second of a processor, and half a minute where training has most of
    the machine: a page that needs them is there before, and says so.
    """

    def __init__(self, module: str):
        self._module = module
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def ready(self, patience_seconds: float) -> bool:
        """Tell whether the module is there; begins to import it, and waits for so long."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=importlib.import_module, args=(self._module,), daemon=True
                )
                self._thread.start()
        self._thread.join(patience_seconds)
        return not self._thread.is_alive()
