"""Write docs/safety.md from its template and the counts; `--check` says whether it is stale."""

from __future__ import annotations

import argparse
import sys

from safety_page import ROOT, safety_markdown


def main() -> int:
    """Write the page, or with --check exit 1 when it is stale."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when stale")
    page = ROOT / "docs" / "safety.md"
    written = safety_markdown()
    if parser.parse_args().check:
        stale = not page.exists() or page.read_text(encoding="utf-8") != written
        if stale:
            print("docs/safety.md is stale; run `python tools/make_safety.py`", file=sys.stderr)
        return int(stale)
    page.write_text(written, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
