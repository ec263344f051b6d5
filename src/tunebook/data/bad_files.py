"""Write the errors of paths that lead nowhere and of files that hold no text, or nothing."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from tunebook.errors import DataError
from tunebook.regular import what_else
from tunebook.units import format_count

# A run file's path was made absolute, which leaves one slash of two.
_URL = re.compile(r"\b(https?|ftp|s3|gs|hf|file):/+(\S+)")
_UNPACK = {".gz": "gzip -dc", ".zst": "zstd -dc"}


def is_missing(path: str, whole: Path) -> DataError:
    """Write the error of a path where there is nothing."""
    if url := _URL.search(path):
        hub = ", or write `hub:org/name` for a data set of the hub" if "hugging" in path else ""
        return DataError(
            f"{url[1]}://{url[2]} is an address and no file; download it first and give the path "
            f"of what you saved{hub}"
        )
    if (leads := what_else(whole)) is not None:
        return DataError(
            f"{path} is {leads}, and no data file; save what it is to give as a file, and name that"
        )
    if whole.is_absolute():
        way_out = "look at the path; one in a run file counts from the folder of the run file"
    else:
        way_out = f"look at the path, it counts from the folder {Path.cwd()}"
    return DataError(f"there is no data file {path}; {way_out}")


def not_utf8(path: Path, line: int, offset: int, byte: int, utf16: bool) -> DataError:
    """Write the error of a byte that is not UTF-8."""
    found = "the byte order mark of UTF-16, " if utf16 else ""
    command = f"iconv -f {'utf-16' if utf16 else 'latin1'} -t utf-8"
    return DataError(
        f"{path} is not UTF-8: line {line}, byte {offset} is {found}0x{byte:02x}; save it as "
        f"UTF-8, for example with `{_into_new_file(path, command)}`"
    )


def has_nul(path: Path, line: int, offset: int) -> DataError:
    """Write the error of a NUL byte."""
    command = _into_new_file(path, "tr -d '\\000'")
    return DataError(
        f"{path} is no text: line {line}, byte {offset} is NUL; if it is UTF-16 save it as UTF-8, "
        f"else take the byte out, for example with `{command}`"
    )


def _into_new_file(path: Path, command: str) -> str:
    unpack = _UNPACK.get(path.suffix.lower())
    bare = path.with_suffix("") if unpack else path
    new = shlex.quote(f"{bare.stem}-utf8{bare.suffix}")
    own = shlex.quote(path.name)
    return f"{unpack} {own} | {command} > {new}" if unpack else f"{command} < {own} > {new}"


def is_empty(path: Path) -> DataError:
    """Write the error of a file without content."""
    return DataError(f"{path} is empty; put rows into it or leave it out")


def all_blank(path: Path, n_lines: int) -> DataError:
    """Write the error of a file that has only blank lines."""
    return DataError(
        f"{path} is empty: its {format_count(n_lines)} lines are blank; put rows into it or leave "
        "it out"
    )
