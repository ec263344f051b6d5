"""What every script here prints around its counts: seed, versions, duration."""

from __future__ import annotations

import argparse
import importlib.metadata
import platform
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PACKAGES = ("torch", "transformers", "safetensors", "filelock")


def arguments(about: str, count: int, *, writes: bool = False) -> argparse.ArgumentParser:
    """Make a parser with `--count` and `--seed`, and `--write` for what `safety.record` keeps."""
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("--count", type=int, default=count)
    parser.add_argument("--seed", type=int, default=0)
    if writes:
        parser.add_argument("--write", action="store_true", help="into benchmarks/results/safety")
    return parser


@contextmanager
def reported(name: str, options: argparse.Namespace) -> Iterator[Counter[str]]:
    """Yield a counter; print it with seed, versions and duration, however the block ends."""
    from tunebook import __version__

    counts: Counter[str] = Counter()
    started = time.monotonic()
    versions = [f"tunebook {__version__}", f"Python {platform.python_version()}"]
    versions += [f"{p} {importlib.metadata.version(p)}" for p in _PACKAGES]
    print(f"{name}: {vars(options)}; {', '.join(versions)}; {platform.platform()}", flush=True)
    try:
        yield counts
    finally:
        for word, number in counts.items():
            print(f"{number:7,}  {word}")
        print(f"{name}: {time.monotonic() - started:,.0f} s", flush=True)


@contextmanager
def scratch() -> Iterator[Path]:
    """Yield a folder that is deleted afterwards."""
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        yield Path(folder)
