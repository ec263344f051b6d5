"""Write what a script counted where docs/safety.md is made from (`--write`)."""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import platform
import sys
from pathlib import Path

RESULTS = Path(__file__).resolve().parents[1] / "results" / "safety"
_SCRIPT = Path(sys.argv[0]).resolve()  # now: a script may go to another folder
_PACKAGES = ("torch", "transformers", "fastapi", "openai")


def record(
    file: str,
    number: str,
    promise: str,
    options: argparse.Namespace,
    cases: int,
    failed: int = 0,
    note: str = "",
) -> None:
    """Write one promise's counts, unless the script was called without `--write`.

    What was mended is a person's to say: it is kept as it stands in the file. A `note` is made of
    what this count found, and an older one goes with its count.
    """
    if not getattr(options, "write", False):
        return
    from tunebook import __version__

    path = RESULTS / f"{file}.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    versions = {"tunebook": __version__, "python": platform.python_version()}
    versions |= {name: importlib.metadata.version(name) for name in _PACKAGES}
    shown = _SCRIPT.relative_to(RESULTS.parents[2]).as_posix()
    said = [one for one in sys.argv[1:] if one != "--write"]
    found: dict[str, object] = {
        "promise": promise,
        "id": number,
        "cases": cases,
        "failed": failed,
        "mended": before.get("mended", []),
        "seed": getattr(options, "seed", 0),
        "how": " ".join(["python", shown, *said]),
        "measured": {"date": datetime.date.today().isoformat(), "versions": versions},
    }
    if note:
        found["note"] = note
    RESULTS.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
