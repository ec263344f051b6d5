"""Turn released weights into a GGUF file, with the converter that llama.cpp brings."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tunebook.book.releases import Gguf
from tunebook.errors import GgufFailed, UsageError

SCRIPT = "convert_hf_to_gguf.py"
VARIABLE = "LLAMA_CPP"
AS_STORED = "as-stored"
_STORED = {"fp32": "f32", "fp16": "f16", "bf16": "bf16"}
_MAGIC = b"GGUF"


@dataclass(frozen=True, slots=True)
class Converter:
    """How the converter is called, and what it shall write: a type, or as stored."""

    command: tuple[str, ...]
    kind: str


def find_converter(kind: str) -> Converter:
    """Find the converter in $LLAMA_CPP or on PATH; UsageError says where it was looked for.

    What it writes by itself is f32, f16, bf16 and q8_0; `llama-quantize` makes smaller ones.
    """
    stated = os.environ.get(VARIABLE)
    if stated:
        script = Path(stated).expanduser() / SCRIPT
        if script.is_file():
            return Converter((sys.executable, str(script)), kind)
    on_path = shutil.which(SCRIPT)
    if on_path:
        return Converter((on_path,), kind)
    looked = f"${VARIABLE} ({stated})" if stated else f"${VARIABLE} (not set)"
    raise UsageError(
        f"--gguf needs {SCRIPT} of llama.cpp, which is neither in {looked} nor on PATH; get "
        f"llama.cpp, install its requirements, and set {VARIABLE} to its folder"
    )


def kind_of(asked: str, precision: str) -> str:
    """Give the type that is asked for of weights that are stored in `precision`."""
    return _STORED[precision] if asked == AS_STORED else asked


def convert(converter: Converter, folder: Path, name: str, precision: str) -> Gguf:
    """Write `name-TYPE.gguf` into a folder of whole weights, stored in `precision`.

    Raises GgufFailed, with nothing of it left, where the converter ends with an error or without
    a GGUF file.
    """
    kind = kind_of(converter.kind, precision)
    file = folder / f"{name}-{kind}.gguf"
    # All it needs is in the folder; a converter has no business on the network.
    try:
        done = subprocess.run(
            [*converter.command, str(folder), "--outfile", str(file), "--outtype", kind],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            env=_environment(),
        )
        failed = _failure(done, file)
    except OSError as error:
        failed = f"it cannot be started: {error.strerror}"
    if failed is not None:
        file.unlink(missing_ok=True)
        raise GgufFailed(f"{converter.command[-1]} made no GGUF file: {failed}")
    return Gguf(file.name, kind, Path(converter.command[-1]).name)


def _environment() -> dict[str, str]:
    # A converter of several files imports those beside it.
    own = {key: value for key, value in os.environ.items() if key != "PYTHONSAFEPATH"}
    return own | {"HF_HUB_OFFLINE": "1"}


def _failure(done: subprocess.CompletedProcess[str], file: Path) -> str | None:
    if done.returncode != 0:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        return said[-1][:300] if said else f"it ended with {done.returncode} and no word"
    if not file.is_file():
        return "it ended well and wrote nothing"
    with open(file, "rb") as opened:
        return None if opened.read(4) == _MAGIC else "what it wrote is no GGUF file"
