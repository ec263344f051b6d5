"""Write ci/constraints.txt: the exact versions of all that the tests need, as installed here.

    python tools/make_constraints.py

Run it in an environment that `make test` made anew and that passed. `make test CONSTRAINTS=
ci/constraints.txt` then installs these versions; without it, whatever pyproject.toml allows.
"""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path

from make_licences import gather

FILE = Path(__file__).resolve().parents[1] / "ci" / "constraints.txt"


def write() -> str:
    """Write a line for each package; a build's own mark, as of CPU-only torch, is left out."""
    lines = [
        f"# Made by tools/make_constraints.py on Python {platform.python_version()}, "
        f"{platform.system()} {platform.machine()}.",
        "# No hashes: pip would then refuse torch from any index but the one they were taken of.",
    ]
    lines += [f"{name}=={version(name).partition('+')[0]}" for name in sorted(gather("dev"))]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(write(), encoding="utf-8")
    print(f"written: {FILE.name}")
