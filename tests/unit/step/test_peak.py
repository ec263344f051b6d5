from __future__ import annotations

import mmap
import os

import pytest
import torch

from tunebook.step.peak import peak_bytes, reset_peak

CPU = torch.device("cpu")
SIZE = 400 * 2**20


# By what the system has: by what `reset_peak` says of it, its faults would be passed over.
@pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="no peak begins anew on this system"
)
def test_a_peak_counts_what_was_freed_until_it_begins_anew() -> None:
    assert reset_peak(CPU)
    before = peak_bytes(CPU)
    with mmap.mmap(-1, SIZE) as freed:
        for page in range(0, SIZE, mmap.PAGESIZE):
            freed[page] = 1
    assert peak_bytes(CPU) > before + 0.9 * SIZE
    reset_peak(CPU)
    assert peak_bytes(CPU) < before + 0.1 * SIZE
