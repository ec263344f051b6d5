"""How the training process takes memory from the system: settings that a process starts with."""

from __future__ import annotations

import os
import sys

# Large pages and no returning of memory between steps: page faults were a fifth of a step's time.
ALLOCATOR = (
    "glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=100000000000"
)


def allocator_settings() -> dict[str, str]:
    """Give the environment variables to start with; what the user has set stays."""
    if sys.platform != "linux":
        return {}
    return {"GLIBC_TUNABLES": os.environ.get("GLIBC_TUNABLES", ALLOCATOR)}
