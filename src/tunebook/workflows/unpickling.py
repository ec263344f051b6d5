"""Have pickled weights written as safetensors, by a process of its own that is shut in.

This side opens no pickle: it names the files, starts the process, listens to it with patience that
ends, and looks at what it wrote as at anything that came from a stranger.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from safetensors import SafetensorError, safe_open

from tunebook.book.atomic import describe_storage_error, sync_folder
from tunebook.errors import ModelError, StorageError, TunebookError, UsageError
from tunebook.models.pickled import Pickled
from tunebook.units import format_bytes

PART_BYTES = 2 << 30
"""Bytes of weights in one file; what the process holds in memory is about twice that."""
ISOLATION = "--without-isolation"
_KEPT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT")
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_START = (
    "import json, runpy, sys; sys.path[:] = json.loads(sys.argv.pop());"
    "runpy.run_module('tunebook.models.unpickle', run_name='__main__')"
)
_GIB = 1 << 30
_MOST_LINE = 32 << 20
_START_SECONDS = 300
# Beside what is read: torch's own, and a part that is copied on its way.
_OWN_MEMORY_BYTES = 4 * _GIB


@dataclass(slots=True)
class Converted:
    """What became of pickled weights.

    `written` are names of files, `tied` the names that were left to what they are tied to,
    `left_out` what the files held beside tensors; the last two say what kept the process in.
    """

    written: list[str] = field(default_factory=list)
    tied: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    n_tensors: int = 0
    n_bytes: int = 0
    no_network: bool = False
    kept_to_folders: bool = False


def convert_pickled(
    pickled: Pickled,
    target: Path,
    ties: Mapping[str, str],
    *,
    isolated: bool = True,
    say: Callable[[str], None] = lambda _: None,
) -> Converted:
    """Write pickled weights into an empty folder as safetensors, each tensor held against its own.

    `ties` names weights that the architecture makes of others. Raises ModelError for a file that is
    refused, UsageError where the process cannot be cut off from the network and `isolated` asks for
    it, StorageError for a full disk, TunebookError where the process cannot be started or broke.
    """
    sizes = [path.stat().st_size for path in pickled.files]
    gib = sum(sizes) / _GIB
    asked = {
        "paths": [os.path.abspath(path) for path in sys.path if path],
        "sources": [str(path.resolve()) for path in pickled.files],
        "target": str(target.resolve()),
        "parent": os.getpid(),
        "ties": dict(ties),
        "isolated": isolated,
        "part_bytes": PART_BYTES,
        "most_bytes": 4 * sum(sizes) + (1 << 20),
        "memory_bytes": max(sizes) + 2 * PART_BYTES + _OWN_MEMORY_BYTES,
        "cpu_seconds": int(120 + 120 * gib),
    }
    made = Converted()
    parts: dict[str, list[str]] = {}
    with tempfile.TemporaryFile() as log, _started(asked, log) as child:
        for said in _lines(child, log, patience_seconds=300 + 600 * gib):
            if "part" in said:
                parts[said["part"]] = said["names"]
                made.n_bytes += said["bytes"]
                name = pickled.files[said["source"]].name
                say(f"{name}: {format_bytes(made.n_bytes)} written and compared")
            made.no_network |= bool(said.get("no_network"))
            made.kept_to_folders |= bool(said.get("kept_to_folders"))
            made.tied |= said.get("tied", {})
            made.left_out += said.get("left_out", [])
            _refuse(said, pickled, target)
    _name_parts(pickled, target, parts, made)
    return made


@contextmanager
def _started(asked: Mapping[str, Any], log: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """Start the process with nothing of this one's environment that could be a secret."""
    environment = {key: os.environ[key] for key in _KEPT if key in os.environ}
    environment |= dict.fromkeys(_ONE_THREAD, "1")
    try:
        child = subprocess.Popen(
            [sys.executable, "-I", "-c", _START, json.dumps(asked["paths"])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=asked["target"],
            env=environment,
        )
    except OSError as error:
        raise _broke(error.strerror or str(error)) from None
    with child:
        try:
            assert child.stdin is not None
            try:
                child.stdin.write(json.dumps(asked).encode())
                child.stdin.close()
            except BrokenPipeError:
                child.stdin = None  # it ended before; its code says how
            yield child
        finally:
            child.kill()


def _lines(
    child: subprocess.Popen[bytes], log: IO[bytes], patience_seconds: float
) -> Iterator[dict[str, Any]]:
    """Yield what the process says; TunebookError where it says no more before it is done."""
    assert child.stdout is not None
    late = threading.Timer(_START_SECONDS + patience_seconds, child.kill)
    late.daemon = True
    late.start()
    done = False
    try:
        while not done:
            said = _line(child.stdout)
            if said is None:
                break
            done = "done" in said
            yield said
    finally:
        in_time = late.is_alive()
        late.cancel()
    if not done:
        code = child.wait()
        if not in_time or code == -24:  # SIGXCPU
            raise ModelError(
                "the weights were not read in the time their size accounts for; try another copy "
                "of the model"
            )
        if code == -25:  # SIGXFSZ
            raise ModelError("the weights are several times as large as their files; refused")
        raise _broke(_last_line(log) or f"it ended with {code}")


def _last_line(log: IO[bytes]) -> str:
    """Give the last line of what the process wrote beside its answers."""
    log.seek(max(0, log.seek(0, os.SEEK_END) - 4000))
    lines = log.read().decode("utf-8", "replace").strip().splitlines()
    return _plain(lines[-1]) if lines else ""


def _line(heard: IO[bytes]) -> dict[str, Any] | None:
    raw = heard.readline(_MOST_LINE)
    try:
        found = json.loads(raw) if raw.endswith(b"\n") else None
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) else None


def _refuse(said: Mapping[str, Any], pickled: Pickled, target: Path) -> None:
    """Raise what the process said was wrong, in words for the user."""
    files = pickled.files
    what = files[0].name if len(files) == 1 else f"{files[0].name} or another of {len(files)} files"
    if "not_isolated" in said:
        raise UsageError(
            "this machine does not let a process be cut off from the network "
            f"({_plain(said['not_isolated'])}), and pickled weights are read in such a one only; "
            f"convert them on one that does, or say {ISOLATION}: they are read as tensors alone "
            "all the same"
        )
    if "not_started" in said:
        raise _broke(_plain(said["not_started"]))
    if "refused" in said:
        raise ModelError(
            f"{files[0].parent / what} is refused, and nothing in it was run: "
            f"{_plain(said['refused'])}; use another copy of the model"
        )
    if "failed" in said:
        words = _plain(said["failed"])
        full = describe_storage_error(
            OSError(words), f"write weights into {target}", target, None, "free space"
        )
        raise StorageError(full) if full else _broke(words)


def _name_parts(
    pickled: Pickled, target: Path, parts: Mapping[str, Sequence[str]], made: Converted
) -> None:
    """Look at what was written, and give it the names by which transformers finds it."""
    found = sorted(path.name for path in target.iterdir())
    if found != sorted(parts) or not found:
        raise _broke(f"it left {', '.join(found[:4]) or 'nothing'} behind")
    weight_map: dict[str, str] = {}
    for number, (part, names) in enumerate(parts.items(), 1):
        name = f"{pickled.stem}.safetensors"
        if len(parts) > 1:
            name = f"{pickled.stem}-{number:05}-of-{len(parts):05}.safetensors"
        _look_at(target / part, names)
        os.rename(target / part, target / name)
        sync_folder(target / name)
        made.written.append(name)
        weight_map |= dict.fromkeys(names, name)
    made.n_tensors = len(weight_map)
    if len(parts) > 1:
        index = {"metadata": {"total_size": made.n_bytes}, "weight_map": weight_map}
        path = target / f"{pickled.stem}.safetensors.index.json"
        path.write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
        made.written.append(path.name)


def _look_at(path: Path, names: Sequence[str]) -> None:
    """Raise TunebookError for what is no file of safetensors with these names."""
    if path.is_symlink() or not path.is_file():
        raise _broke(f"{path.name} is no file")
    try:
        with safe_open(path, framework="numpy") as file:
            same = set(file.keys()) == set(names)
    except (SafetensorError, OSError) as error:
        raise _broke(f"{path.name}: {error}") from None
    if not same:
        raise _broke(f"{path.name} holds other names than it said")


def _plain(words: object) -> str:
    """Cut words of the other process to one line that can be shown."""
    line = " ".join(str(words).split())[:400]
    return "".join(sign if sign.isprintable() else "?" for sign in line)


def _broke(reason: str) -> TunebookError:
    return TunebookError(
        f"the process that reads pickled weights did not do it ({reason}); what is converted is "
        "as it was"
    )
