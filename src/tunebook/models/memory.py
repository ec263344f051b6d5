"""Whether memory did not suffice, and what to do then."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

T = TypeVar("T")


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether a device's or the system's memory did not suffice."""
    return (
        isinstance(error, (torch.OutOfMemoryError, MemoryError))
        or "can't allocate memory" in str(error)  # a plain RuntimeError of torch's CPU allocator
    )


def unless_too_large(work: Callable[[], T]) -> T | None:
    """Do something; None where memory did not suffice, once what was made of it is let go of."""
    try:
        return work()
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    # Out here nothing of the failed try is held by its traceback any more.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None
