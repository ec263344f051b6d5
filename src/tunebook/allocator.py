"""How the training process takes memory from the system: settings that a process starts with."""

from __future__ import annotations

import os
import sys

# Large pages and no returning of memory between steps: page faults were a fifth of a step's time.
ALLOCATOR = (
    "glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=100000000000"
)

# oneDNN keeps the code it made for each shape of a product, half a megabyte apiece, and 1,024 of
# them where nothing is said. A step asks for some twenty, and the next for others: its rows have
# another length.
KEPT_PRODUCTS = "128"


def allocator_settings() -> dict[str, str]:
    """Give the environment variables to start with; what the user has set stays."""
    if sys.platform != "linux":
        return {}
    settings = {
        "GLIBC_TUNABLES": ALLOCATOR,
        "ONEDNN_PRIMITIVE_CACHE_CAPACITY": KEPT_PRODUCTS,
    }
    return {key: os.environ.get(key, value) for key, value in settings.items()}
